"""The engine proper against the one-page reference: the test that guards every later speed-up."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_config import preset_config
from tolerances import SAME_DTYPE_FACTOR, TRAJECTORY_64

from fastinfogan.networks import initialize
from fastinfogan.reference import ReferenceEngine
from fastinfogan.step import Batch, FastEngine

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("narrow_presets")


def tiny(preset, *, update="alternating", objective="infogan", codes=None, batch=6):
    """A preset at a sixteenth of its width and a small batch."""
    config = preset_config(preset)
    return replace(
        config,
        model=replace(config.model, preset=f"narrow-{preset}", codes=codes or config.model.codes),
        optim=replace(config.optim, update=update, objective=objective, batch_size=batch),
    )


def build(kind, config, dtype):
    engine = kind(config, CPU)
    random = torch.Generator().manual_seed(0)
    for network in (engine.generator, engine.discriminator):
        initialize(network, config.architecture, random)
        network.to(dtype)
    return engine


def batch_of(config, iteration, dtype):
    size, spec = config.optim.batch_size, config.spec
    random = torch.Generator().manual_seed(iteration)
    real = torch.rand(size, *config.architecture.image_shape, generator=random).to(dtype)
    latents = [
        type(drawn)(*(part.to(dtype) for part in drawn))
        for drawn in (spec.sample(size, 0, size * (2 * iteration + i)) for i in (0, 1))
    ]
    return Batch(real, *latents)


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


def distance(a, b):
    """Euclidean distance over all tensors of two states, in float64."""
    return sum((a[k].double() - b[k].double()).square().sum() for k in b).sqrt().item()


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
}


@pytest.mark.parametrize("case", CASES)
def test_twenty_iterations_in_float64(case):
    """Losses, gradients, weights and statistics agree at every iteration, to rounding."""
    config = CASES[case]
    fast = build(FastEngine, config, torch.float64)
    reference = build(ReferenceEngine, config, torch.float64)
    for iteration in range(20):
        batch = batch_of(config, iteration, torch.float64)
        for a, b in zip(fast.step(batch), reference.step(batch), strict=True):
            torch.testing.assert_close(a, b, rtol=TRAJECTORY_64, atol=TRAJECTORY_64)
        states = state(fast), state(reference)
        assert states[0].keys() == states[1].keys()
        for name, tensor in states[1].items():
            torch.testing.assert_close(
                states[0][name],
                tensor,
                rtol=TRAJECTORY_64,
                atol=TRAJECTORY_64,
                msg=lambda text, name=name, i=iteration: f"iteration {i}, {name}: {text}",
            )


def test_twenty_iterations_in_float32_are_as_close_to_float64_as_the_references():
    config = CASES["mnist"]
    truth = build(ReferenceEngine, config, torch.float64)
    fast, reference = (build(kind, config, torch.float32) for kind in (FastEngine, ReferenceEngine))
    for iteration in range(20):
        truth.step(batch_of(config, iteration, torch.float64))
        for engine in (fast, reference):
            engine.step(batch_of(config, iteration, torch.float32))
        exact = state(truth)
        error, allowed = distance(state(fast), exact), distance(state(reference), exact)
        assert error <= SAME_DTYPE_FACTOR * allowed, f"iteration {iteration}"


@pytest.mark.parametrize("engine", [FastEngine, ReferenceEngine])
@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
def test_gan_baseline_sends_no_information_gradient_anywhere_but_q(engine, update):
    """Fig. 1's baseline: with another code drawn, only Q's gradient changes."""
    config = tiny("mnist", objective="gan", update=update)
    grads = []
    for shift in (0, 1):
        subject = build(engine, config, torch.float64)
        batch = batch_of(config, 0, torch.float64)
        # Q is asked for other codes than G was fed: its loss changes, and nothing else may.
        assemble, spec = subject.spec.assemble, subject.spec
        fed = [assemble(*latents) for latents in (batch.latents_d, batch.latents_g)]

        class Asked(type(spec)):
            def assemble(self, noise, values, fed=fed, batch=batch):
                return fed[0] if noise is batch.latents_d.noise else fed[1]

        subject.spec = Asked(spec.noise, spec.codes)
        asked = batch.latents_d.values.clone()
        asked[:, 0] = (asked[:, 0] + shift) % 10
        latents_d = batch.latents_d._replace(values=asked)
        subject.step(batch._replace(latents_d=latents_d))
        grads.append({k: v for k, v in state(subject).items() if k.endswith(".grad")})
    changed = {name for name in grads[0] if not torch.equal(grads[0][name], grads[1][name])}
    assert changed and all(name.startswith("discriminator.q_head") for name in changed)


@pytest.mark.parametrize("engine", [FastEngine, ReferenceEngine])
def test_g_update_leaves_d_and_q_alone(engine):
    """The G update changes no weight, statistic or gradient of D: only D's own update does."""
    config = tiny("mnist")
    subject = build(engine, config, torch.float32)
    batch = batch_of(config, 0, torch.float32)
    before = {}
    update = subject.adam_d.step

    def remember():
        update()
        before.update({k: v for k, v in state_of_d(subject).items()})

    subject.adam_d.step = remember
    subject.step(batch)
    after = state_of_d(subject)
    assert before and all(torch.equal(before[name], after[name]) for name in after)


def state_of_d(engine):
    tensors = {k: v.clone() for k, v in engine.discriminator.state_dict().items()}
    grads = {f"{k}.grad": p.grad.clone() for k, p in engine.discriminator.named_parameters()}
    return tensors | grads


def test_running_statistics_of_d_take_real_then_fake():
    """Two momentum updates per iteration, the real half first (the paper's code does both)."""
    config = tiny("mnist")
    subject = build(FastEngine, config, torch.float64)
    batch = batch_of(config, 0, torch.float64)
    d = subject.discriminator
    with torch.no_grad():
        fake = subject.generator(subject.spec.assemble(*batch.latents_d))
        means = []
        for images in (batch.real, fake):
            x = d.trunk[1].op(d.trunk[0](images))
            means.append(x.mean((0, 2, 3)))
    build_again = build(FastEngine, config, torch.float64)
    build_again.step(batch)
    expected = 0.9 * (0.1 * means[0]) + 0.1 * means[1]
    torch.testing.assert_close(build_again.discriminator.trunk[1].norm.running_mean, expected)
