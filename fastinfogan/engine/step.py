"""One training iteration of the engine proper: losses, backward passes, both updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fastinfogan.config import TrainConfig
from fastinfogan.engine.flat import FlatAdam
from fastinfogan.engine.precision import LossScale, half_dtype
from fastinfogan.kernels.mi_loss import d_loss, g_loss
from fastinfogan.model.networks import Discriminator, Generator, frozen


class Inputs(NamedTuple):
    """One draw of noise and codes."""

    latents: Tensor  # (B, input_width): G's input, categorical codes one-hot
    values: Tensor  # (B, codes) float32: what Q has to find; a category as its index


class Batch(NamedTuple):
    """What one iteration consumes. A simultaneous update uses ``inputs_d`` alone."""

    real: Tensor  # (B, C, H, W) in the architecture's output range
    inputs_d: Inputs
    inputs_g: Inputs | None


class Losses(NamedTuple):
    """What one iteration reports, as tensors on the device: reading them is the caller's choice."""

    d_loss: Tensor  # (), nats: -log D(x) - log(1 - D(G))
    g_loss: Tensor  # (), nats: -log D(G)
    nll: Tensor  # (codes,), nats, of the codes of D's update under Q; L_I = H(c) - nll


class FastEngine:
    """D and Q learn in one pass over [real; fake]; then G learns through a frozen D.

    The halves of D's batch are normalised apart (``groups=2``), so the pass gives what two passes
    would, with matrix products twice as tall. Each loss with its gradient is one launch, and so is
    each network's update. With ``--amp`` the passes run on half-precision twins of the networks
    (``FlatAdam.compute``); statistics, losses, moments and weights proper stay in float32.

    Args:
        config: resolved.
        device: where everything lives.
        dtype: of the weights; float64 is for comparisons.

    Attributes:
        generator, discriminator: the networks proper.
        input_dtype: what images and latents should come in.
        loss_scale: for float16 only.
    """

    def __init__(
        self, config: TrainConfig, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        spec, optim, run = config.spec, config.optim, config.run
        self.spec, self.lambdas = spec, config.lambdas
        self.informed = optim.objective == "infogan"
        self.generator = Generator(config.architecture, spec).to(device, dtype)
        self.discriminator = Discriminator(config.architecture, spec, config.model.separate_q).to(
            device, dtype
        )
        half = half_dtype(run, device)
        betas = (optim.beta1, optim.beta2)
        self.adam_d = FlatAdam(self.discriminator, optim.lr_d, betas, half)
        self.adam_g = FlatAdam(self.generator, optim.lr_g, betas, half)
        self.input_dtype = dtype if half is None else half
        self.loss_scale = LossScale(device) if half == torch.float16 else None
        self._one = torch.ones((), device=device, dtype=dtype)
        self._side = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._generate, self._judge = self.adam_g.compute, _judge
        if run.compile:
            # Dynamo counts what it compiles per function, and a program may make many engines.
            torch.compiler.reset()
            # Apart: one graph with both backward passes in it compiles far longer. Deterministic:
            # a continued run must not choose other reductions because they ran faster today.
            self._generate, self._judge = (
                torch.compile(f, fullgraph=True, dynamic=False, options={"deterministic": True})
                for f in (self._generate, self._judge)
            )
        self.step = self._alternating if optim.update == "alternating" else self._simultaneous

    def publish(self) -> None:
        """Tell the half-precision twins that the weights were set from outside."""
        self.adam_d.publish()
        self.adam_g.publish()

    def _alternating(self, batch: Batch) -> Losses:
        codes, lambdas, d = self.spec.codes, self.lambdas, self.adam_d.compute
        with torch.no_grad():
            fake = self._generate(batch.inputs_d.latents)
        # What G makes for its own update doesn't depend on D's: on a GPU it is made beside it.
        fake_g = _Beside(self._side, self._generate, batch.inputs_g.latents)

        logits, q_params = self._judge(d, torch.cat([batch.real, fake]), 2, self.informed)
        total, terms = d_loss(logits, q_params, batch.inputs_d.values, codes, lambdas)
        self.adam_d.zero_grad()
        total.backward(self._seed(total))
        self.adam_d.step(self.loss_scale)

        with frozen(d):
            if self.informed:
                logits, q_params = self._judge(d, fake_g.result(), 1, True)
                total, terms_g = g_loss(logits, q_params, batch.inputs_g.values, codes, lambdas)
            else:
                total, terms_g = _plain_g_loss(d.logits(d.features(fake_g.result())))
            self.adam_g.zero_grad()
            total.backward(self._seed(total))
        self.adam_g.step(self.loss_scale)
        return self._report(terms, terms_g)

    def _simultaneous(self, batch: Batch) -> Losses:
        codes, lambdas, d = self.spec.codes, self.lambdas, self.adam_d.compute
        values = batch.inputs_d.values
        fake = self._generate(batch.inputs_d.latents)
        logits, q_params = self._judge(d, torch.cat([batch.real, fake]), 2, self.informed)
        d_total, terms = d_loss(logits, q_params, values, codes, lambdas)
        if self.informed:
            g_total, terms_g = g_loss(logits.chunk(2)[1], q_params, values, codes, lambdas)
        else:
            g_total, terms_g = _plain_g_loss(logits.chunk(2)[1])
        # Both gradients come from the weights before either update.
        for adam, total, keep in ((self.adam_d, d_total, True), (self.adam_g, g_total, False)):
            grads = torch.autograd.grad(total, adam.trained, self._seed(total), retain_graph=keep)
            for parameter, grad in zip(adam.trained, grads, strict=True):
                parameter.grad = grad
        self.adam_d.step(self.loss_scale)
        self.adam_g.step(self.loss_scale)
        return self._report(terms, terms_g)

    def _seed(self, total: Tensor) -> Tensor:
        """What a backward pass begins with: 1, or the loss scale."""
        return (self._one if self.loss_scale is None else self.loss_scale.value).view_as(total)

    def _report(self, terms: Tensor, terms_g: Tensor) -> Losses:
        if self.loss_scale is not None:
            self.loss_scale.update()
        return Losses(terms[0], terms_g[0], terms[1:])


def _judge(d: Discriminator, images: Tensor, groups: int, informed: bool) -> tuple[Tensor, Tensor]:
    """D's logits on all images and Q's output on the last group, the generated ones."""
    features = d.features(images, groups)
    logits = d.logits(features)
    fake, features_fake = images.chunk(groups)[-1], features.chunk(groups)[-1]
    if not informed:  # Q watches: no gradient of its loss reaches the trunk or G
        fake, features_fake = fake.detach(), features_fake.detach()
    return logits, d.q_params(fake, features_fake)


def _plain_g_loss(logits: Tensor) -> tuple[Tensor, Tensor]:
    """G's loss without an information term, in the form of ``g_loss``."""
    loss = F.softplus(-logits.to(torch.promote_types(logits.dtype, torch.float32))).mean()
    return loss, loss.detach().view(1)


class _Beside:
    """A call that runs at once on another stream, or, without one, when its result is wanted.

    (On a CPU an early call would only keep its activations for longer.) Argument and result outlive
    the iteration's last use of them on either stream, and each stream waits for the other before
    the next call, so the allocator needs no ``record_stream``, which in a recorded graph would keep
    their memory from being used again.
    """

    def __init__(
        self, stream: torch.cuda.Stream | None, function: Callable[[Tensor], Tensor], x: Tensor
    ) -> None:
        self._stream, self._later = stream, lambda: function(x)
        if stream is not None:
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._made = function(x)

    def result(self) -> Tensor:
        """What the call returned, for use on the current stream."""
        if self._stream is None:
            return self._later()
        torch.cuda.current_stream().wait_stream(self._stream)
        return self._made
