"""One training iteration of the engine proper: passes, losses, backward passes, both updates."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fastinfogan.config import TrainConfig
from fastinfogan.engine.flat import FlatAdam
from fastinfogan.engine.loss_scale import LossScale
from fastinfogan.engine.objective import Objective, View, judge
from fastinfogan.kernels.warp import warp
from fastinfogan.model.networks import Discriminator, Generator, frozen
from fastinfogan.model.reference import Batch, Inputs, Losses
from fastinfogan.plan import Plan

Judge = Callable[..., View]  # as ``objective.judge``


class FastEngine:
    """D and Q learn in one pass over [real; fake]; then G learns through a frozen D.

    The halves of D's batch are normalised apart (``groups=2``), so the pass gives what two passes
    would, with matrix products twice as tall. Each loss with its gradient is one launch, and so is
    each network's update. With ``--amp`` the passes run on half-precision twins of the networks
    (``FlatAdam.compute``); statistics, losses, moments and weights proper stay in float32.

    Args:
        config: resolved.
        plan: where everything lives, and how it runs there.
        dtype: of the weights; float64 is for comparisons.
        judge: how D and Q look at a batch; another than ``objective.judge`` is for comparisons.
        optimizer: what updates a network; another than ``FlatAdam`` is for comparisons.

    Attributes:
        generator, discriminator: the networks proper.
        adam_g, adam_d: their optimisers.
        loss_scale: for float16 only.
    """

    def __init__(
        self,
        config: TrainConfig,
        plan: Plan,
        dtype: torch.dtype = torch.float32,
        judge: Judge = judge,
        optimizer: type[FlatAdam] = FlatAdam,
    ) -> None:
        device, optim = plan.device, config.optim
        self.objective = Objective(config)
        self._range = config.architecture.output_range
        self.generator = Generator(config.architecture, config.spec).to(device, dtype)
        self.discriminator = Discriminator(
            config.architecture, config.spec, config.model.separate_q
        ).to(device, dtype)
        betas = (optim.beta1, optim.beta2)
        self.adam_d = optimizer(self.discriminator, optim.lr_d, betas, plan.half)
        self.adam_g = optimizer(self.generator, optim.lr_g, betas, plan.half)
        self.loss_scale = LossScale(device) if plan.half == torch.float16 else None
        self._one = torch.ones((), device=device, dtype=dtype)
        self._side = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._generate, self._judge = self.adam_g.compute, judge
        if plan.compile:
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

    def keep_to_one_stream(self) -> None:
        """From now on do nothing beside something else."""
        self._side = None

    def _alternating(self, batch: Batch) -> Losses:
        """D and Q learn from one draw of codes, then G from another."""
        objective, d = self.objective, self.adam_d.compute
        with torch.no_grad():
            fake = self._fake(batch.inputs_d, batch)
        # What G makes for its own update doesn't depend on D's: on a GPU it is made beside it.
        fake_g = _Beside(self._side, lambda: self._fake(batch.inputs_g, batch))

        images = torch.cat([batch.real, fake])
        view = self._judge(d, images, 2, objective.informed, batch.copy)
        total, terms, disagreement = objective.d_loss(view, batch.inputs_d.values)
        self.adam_d.zero_grad()
        total.backward(self._seed(total))
        self.adam_d.step(self.loss_scale)

        with frozen(d):
            if objective.informed:
                view = self._judge(d, fake_g.result(), 1, True)
            else:
                view = View(d.logits(d.features(fake_g.result())), None)
            total, terms_g = objective.g_loss(view, batch.inputs_g.values)
            self.adam_g.zero_grad()
            total.backward(self._seed(total))
        self.adam_g.step(self.loss_scale)
        return self._report(terms, terms_g, disagreement)

    def _simultaneous(self, batch: Batch) -> Losses:
        """One draw of codes and one pass through D serve both updates."""
        objective, d = self.objective, self.adam_d.compute
        values = batch.inputs_d.values
        images = torch.cat([batch.real, self._fake(batch.inputs_d, batch)])
        view = self._judge(d, images, 2, objective.informed, batch.copy)
        d_total, terms, disagreement = objective.d_loss(view, values)
        g_view = View(view.logits.chunk(2)[1], view.q_params)
        g_total, terms_g = objective.g_loss(g_view, values)
        # Both gradients come from the weights before either update.
        for adam, total, keep in ((self.adam_d, d_total, True), (self.adam_g, g_total, False)):
            grads = torch.autograd.grad(total, adam.trained, self._seed(total), retain_graph=keep)
            for parameter, grad in zip(adam.trained, grads, strict=True):
                parameter.grad = grad
        self.adam_d.step(self.loss_scale)
        self.adam_g.step(self.loss_scale)
        return self._report(terms, terms_g, disagreement)

    def _fake(self, inputs: Inputs, batch: Batch) -> Tensor:
        """G's images as D and Q get to see them."""
        images = self._generate(inputs.latents)
        return images if inputs.maps is None else warp(images, inputs.maps, batch.fill, self._range)

    def _seed(self, total: Tensor) -> Tensor:
        """What a backward pass begins with: 1, or the loss scale."""
        return (self._one if self.loss_scale is None else self.loss_scale.value).view_as(total)

    def _report(self, terms: Tensor, terms_g: Tensor, disagreement: Tensor | None) -> Losses:
        if self.loss_scale is not None:
            self.loss_scale.update()
        return Losses(terms[0], terms_g[0], terms[1:], disagreement)


class _Beside:
    """A call that runs at once on another stream, or, without one, when its result is wanted.

    (On a CPU an early call would only keep its activations for longer.) Arguments and result
    outlive the iteration's last use of them on either stream, and each stream waits for the other
    before the next call, so the allocator needs no ``record_stream``, which in a recorded graph
    would keep their memory from being used again.
    """

    def __init__(self, stream: torch.cuda.Stream | None, function: Callable[[], Tensor]) -> None:
        self._stream, self._later = stream, function
        if stream is not None:
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._made = function()

    def result(self) -> Tensor:
        """What the call returned, for use on the current stream."""
        if self._stream is None:
            return self._later()
        torch.cuda.current_stream().wait_stream(self._stream)
        return self._made
