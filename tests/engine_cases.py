"""What the tests of the engines share: configurations to try, engines, batches, their state."""

from __future__ import annotations

from dataclasses import replace

import torch

from fastinfogan.config import preset_config
from fastinfogan.config.jitter import AUGMENT_SHARE
from fastinfogan.engine.pairs import Pairs
from fastinfogan.engine.step import FastEngine
from fastinfogan.kernels.latents import latents_reference
from fastinfogan.kernels.philox import STREAM_COPY, STREAM_FAKE, STREAM_REAL
from fastinfogan.kernels.warp import draw_maps_reference, warp_reference
from fastinfogan.model.initial import initialize
from fastinfogan.model.reference import Batch, Inputs
from fastinfogan.plan import make_plan

CPU = torch.device("cpu")


def tiny(preset, *, codes=None, batch=6, **optim):
    """A preset at a sixteenth of its width and a small batch."""
    config = preset_config(preset)
    return replace(
        config,
        model=replace(config.model, preset=f"narrow-{preset}", codes=codes or config.model.codes),
        optim=replace(config.optim, batch_size=batch, **optim),
    )


def build(kind, config, dtype, device=CPU):
    if kind is FastEngine:
        plan = make_plan(config.run)
        engine = kind(config, replace(plan, device=device), dtype)
    else:
        engine = kind(config, device)
        engine.generator.to(dtype)
        engine.discriminator.to(dtype)
    random = torch.Generator().manual_seed(0)
    for network in (engine.generator, engine.discriminator):
        initialize(network, config.architecture, random)
    if kind is FastEngine:
        engine.publish()
    return engine


def batch_of(config, iteration, dtype, device=CPU):
    """What an iteration consumes, drawn in float32 whatever the dtype."""
    size, spec, optim = config.optim.batch_size, config.spec, config.optim
    output_range = config.architecture.output_range
    random = torch.Generator().manual_seed(iteration)
    real = torch.rand(size, *config.architecture.image_shape, generator=random)
    fill = torch.linspace(0.1, 0.3, real.shape[1])

    def maps(jitter, stream, shift=0):
        seed, offset = torch.tensor([0]), torch.tensor([size * (2 * iteration) + shift])
        return draw_maps_reference(jitter, size, seed, offset, stream, output_range)

    def changed(images, maps):
        return warp_reference(images, maps, fill, output_range)

    augment = config.jitter.times(AUGMENT_SHARE)
    copy = changed(real, maps(config.jitter, STREAM_COPY)) if optim.consistency > 0 else None
    if optim.augment:
        real = changed(real, maps(augment, STREAM_REAL))
    pairs, inputs = None, []
    if optim.contrastive > 0:  # the gap is 1, then smaller, and at last gone
        pairs = Pairs(spec, 2 * size * optim.gap_until, torch.device("cpu"))
    for i in (0, 1):
        codes = spec.codes if pairs is None else pairs.codes
        offset, shared = torch.tensor([size * (2 * iteration + i)]), None
        latents, values = latents_reference(spec.noise, codes, size, 0, offset)
        if pairs is not None:
            latents, values, shared = pairs(latents, values, torch.tensor([2 * size * iteration]))
            shared = shared.to(device)
        maps_g = maps(augment, STREAM_FAKE, i * size).to(device) if optim.augment else None
        inputs.append(Inputs(latents.to(device, dtype), values.to(device), maps_g, shared))
    copy = None if copy is None else copy.to(device, dtype)
    return Batch(real.to(device, dtype), *inputs, copy, fill.to(device))


def losses_of(engine, batch):
    """What a step with the batch reports, by name."""
    losses = engine.step(batch)._asdict()
    return {name: loss for name, loss in losses.items() if loss is not None}


def state(engine):
    """Weights, running statistics and gradients of both networks, by name."""
    found = {}
    for part in ("generator", "discriminator"):
        network = getattr(engine, part)
        for name, tensor in network.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                found[f"{part}.{name}"] = tensor.clone()
        for name, parameter in network.named_parameters():
            found[f"{part}.{name}.grad"] = parameter.grad.clone()
    return found


def gradients(engine):
    return {name: tensor for name, tensor in state(engine).items() if name.endswith(".grad")}


def norm(tensors):
    """Euclidean norm of several tensors as one vector, in float64."""
    return torch.cat([tensor.double().flatten() for tensor in tensors.values()]).norm().item()


def distance(a, b):
    """Euclidean distance over all tensors of two states, in float64."""
    return norm({name: a[name].double() - b[name].double() for name in b})


BOTH = {"consistency": 0.7, "augment": True}
PAIRS = {"contrastive": 0.6, "gap_until": 7}
CASES = {
    "mnist": tiny("mnist"),
    "simultaneous": tiny("mnist", update="simultaneous"),
    "gan": tiny("mnist", objective="gan"),
    "gan-simultaneous": tiny("mnist", objective="gan", update="simultaneous"),
    "separate-q": tiny("mnist-mlp"),
    "separate-q-gan-simultaneous": tiny("mnist-mlp", objective="gan", update="simultaneous"),
    "every-kind-of-code": tiny("mnist-mlp", codes="cat3,gauss:learned,bern,cat4:free,uni:learned"),
    "svhn": tiny("svhn"),  # a learned sigma, upconvs without batchnorm, tanh
    "faces": tiny("faces-azimuth"),  # Q without a hidden layer
    "chairs": tiny("chairs-rotation"),  # stride 1
    "consistency": tiny("mnist", consistency=0.7),
    "augment": tiny("mnist", augment=True),
    "both": tiny("mnist", **BOTH),
    "simultaneous-both": tiny("mnist", update="simultaneous", **BOTH),
    "simultaneous-augment-gan": tiny("mnist", objective="gan", update="simultaneous", augment=True),
    "every-discrete-code-both": tiny("mnist", codes="cat3,uni:learned,2xbern,cat4:free", **BOTH),
    "separate-q-both": tiny("mnist-mlp", **BOTH),
    "celeba-both": tiny("celeba", **BOTH),  # colour: brightness, contrast and mirror images, too
    "contrastive": tiny("mnist", **PAIRS),
    "simultaneous-contrastive": tiny("mnist", update="simultaneous", **PAIRS),
    "everything": tiny("celeba", codes="cat3,2xuni,gauss:learned,uni:free", **BOTH, **PAIRS),
    "separate-q-contrastive": tiny("mnist-mlp", codes="cat3,2xgauss,uni", **PAIRS),
    "infogan-cr": tiny("infogan-cr"),
    "sprites": tiny("sprites"),  # layers that see where they are, scaled weights, two codes nudged
    "orthogonal": tiny("mnist", codes="cat3,uni,gauss,2xuni:free,uni", orthogonal=0.7),
    "simultaneous-orthogonal": tiny("mnist", codes="2xuni", orthogonal=2.0, update="simultaneous"),
}
