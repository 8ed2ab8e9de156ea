"""One training iteration of the engine proper: passes, losses, backward passes, both updates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from fastinfogan.config import TrainConfig
from fastinfogan.engine import objective as objectives
from fastinfogan.engine.beside import Beside
from fastinfogan.engine.by_hand import trio_of
from fastinfogan.engine.flat import FlatAdam
from fastinfogan.engine.loss_scale import LossScale
from fastinfogan.engine.nudges import Nudges, crossing
from fastinfogan.engine.objective import Objective, View, compare, judge, look
from fastinfogan.kernels.warp import warp
from fastinfogan.model.networks import Discriminator, Generator, exchange_sums, frozen
from fastinfogan.model.reference import Batch, Inputs, Losses
from fastinfogan.model.singular import turn
from fastinfogan.plan import Plan

Judge = Callable[..., View]  # as ``objective.judge``


class FastEngine:
    """D and Q learn in one pass over [real; fake]; then G learns through a frozen D.

    The halves of D's batch are normalised apart (``groups=2``), so the pass gives what two passes
    would, with matrix products twice as tall. Each loss with its gradient is one launch, and so is
    each network's update. With ``--amp`` the passes run on half-precision twins of the networks
    (``FlatAdam.compute``); statistics, losses, moments and weights proper stay in float32.

    With L_cons D learns from a second pass, of the changed copies. It shares nothing with the first
    but the weights, so on a GPU both directions of it run beside the first one's backward pass, and
    the two gradients are then added up in a launch for each dtype.

    Of several ranks each sees its share of the batch. With the sums of batchnorm exchanged and
    gradients averaged (``Plan.exchange``, ``FlatAdam.share``) they do together what one would,
    to rounding; the losses reported are those of the share.

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
        meanwhile: is called once an iteration, when its batch has been consumed, and on a GPU runs
            beside the last update; None: nothing is.
        tally: what the losses' own launches add their terms to (``mi_loss.d_loss``), if anything.
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
            config.architecture, config.spec, config.model.separate_q, optim.contrastive > 0
        ).to(device, dtype)
        for network in (self.discriminator, self.generator):
            exchange_sums(network, plan.exchange)
        betas = (optim.beta1, optim.beta2)
        self.adam_d = optimizer(self.discriminator, optim.lr_d, betas, plan.half)
        self.adam_g = optimizer(self.generator, optim.lr_g, betas, plan.half)
        self._frozen = frozen(self.adam_d.compute)
        alone = plan.ranks.size == 1
        if not alone:
            self.adam_d.share(plan.ranks, plan.sent_in)
            self.adam_g.share(plan.ranks, plan.sent_in)
        self.loss_scale = LossScale(device) if plan.half == torch.float16 else None
        one = torch.ones((), device=device, dtype=dtype)
        self._scales_weights = config.architecture.spectral is not None
        self._nudges = Nudges(config.spec, device) if optim.orthogonal > 0 else None
        self._orthogonal = torch.full_like(one, optim.orthogonal)
        self._weight = torch.full_like(one, optim.consistency)
        # What a loss is told its backward pass begins with spares a GPU a launch. A CPU has nothing
        # to gain, and would wait while torch, given such a beginning, loads sympy to look at it.
        self._one = None if device.type == "cpu" else one
        self._d_apart = self.adam_d.apart() if optim.consistency > 0 else None
        alternating = optim.update == "alternating"
        self.step = self._alternating if alternating else self._simultaneous
        self._trio = None
        if judge is objectives.judge and alone and not plan.compile:
            self._trio = trio_of(config, self.objective, self.adam_g, self.adam_d)
        # Float16's last gradient decides whether there is an update, and simultaneous ones have all
        # their gradients at once.
        self._updates_early = alternating and self.loss_scale is None
        # Collectives run in the order in which they were asked for: several ranks would wait for
        # what runs beside something else.
        on_gpu = device.type == "cuda"
        self._side = torch.cuda.Stream(device, priority=-1) if on_gpu and alone else None
        if self._side is not None:
            self._update_beside(torch.cuda.Stream(device))
        self.meanwhile: Callable[[], None] | None = None
        self.tally: Tensor | None = None
        self._generate, self._judge, self._look = self.adam_g.compute, judge, look
        self._compare = compare
        if plan.compile:
            # Dynamo counts what it compiles per function, and a program may make many engines.
            torch.compiler.reset()
            # Apart: one graph with both backward passes in it compiles far longer. Deterministic:
            # a continued run must not choose other reductions because they ran faster today.
            self._generate, self._judge, self._look, self._compare = (
                torch.compile(f, fullgraph=True, dynamic=False, options={"deterministic": True})
                for f in (self._generate, self._judge, self._look, self._compare)
            )

    def publish(self) -> None:
        """Tell the half-precision twins that the weights were set from outside."""
        self.adam_d.publish()
        self.adam_g.publish()

    def scale_rates(self, share: float) -> None:
        """From now on learn at this share of both learning rates."""
        for adam in (self.adam_d, self.adam_g):
            adam.scale_rate(share)

    def scale_orthogonal(self, share: float) -> None:
        """From now on give L_orth this share of its weight."""
        self._orthogonal.fill_(self.objective.orthogonal * share)

    def keep_to_one_stream(self) -> None:
        """From now on do nothing beside something else."""
        self._side = None
        self._update_beside(None)

    def _update_beside(self, stream: torch.cuda.Stream | None) -> None:
        """Let updates begin on a stream before their backward pass is over; None: no longer.

        That stream has no priority: Adam takes the bandwidth that the others leave.
        """
        for adam in (self.adam_d, self.adam_g) if self._updates_early else ():
            # The pass of the copies reads D's weights until it is over.
            if isinstance(adam, FlatAdam) and not (adam is self.adam_d and self._d_apart):
                adam.update_beside(stream)

    def _alternating(self, batch: Batch) -> Losses:
        """D and Q learn from one draw of codes, then G from another."""
        if self._trio is not None and self._trio.runs():
            terms = self._trio.step_d(batch.real, batch.inputs_d)
            return self._report(terms, self._trio.step_g(batch.inputs_g), None)
        objective, d = self.objective, self.adam_d.compute
        self._forget_gradients()
        if self._scales_weights:
            turn(self.discriminator)
        with torch.no_grad():
            fake = self._fake(batch.inputs_d, batch)
        # What G makes for its own update doesn't depend on D's: on a GPU it is made beside it.
        fake_g = Beside(self._side, lambda: self._fake(batch.inputs_g, batch))

        images = torch.cat([batch.real, fake])
        view = self._judge(d, images, 2, objective.informed, batch.copy is not None)
        agreed = self._agree(view.q_image, batch.copy)
        total, terms = objective.d_loss(view, batch.inputs_d.values, self._seed, self.tally)
        contrast = self._contrast(fake, batch.inputs_d)
        _backward(_plus(total, contrast), self._seed)
        if agreed is not None:
            _add(self.adam_d.trained, agreed.result()[1])
        self.adam_d.step(self.loss_scale)

        with self._frozen:
            fake = fake_g.result()
            if objective.informed:
                view = self._judge(d, fake, 1, True)
            else:
                view = View(d.logits(d.features(fake)), None)
            total, terms_g = objective.g_loss(view, batch.inputs_g.values, self._seed, self.tally)
            total = _plus(total, self._contrast(fake, batch.inputs_g), objective.contrastive)
            crossed = self._crossing(batch.inputs_g)
            total = _plus(total, crossed, self._orthogonal)
            _backward(total, self._seed)
        self._last_update(self.adam_g)
        return self._report(terms, terms_g, agreed, contrast, crossed)

    def _simultaneous(self, batch: Batch) -> Losses:
        """One draw of codes and one pass through D serve both updates."""
        objective, d = self.objective, self.adam_d.compute
        self._forget_gradients()
        if self._scales_weights:
            turn(self.discriminator)
        values = batch.inputs_d.values
        fake = self._fake(batch.inputs_d, batch)
        images = torch.cat([batch.real, fake])
        view = self._judge(d, images, 2, objective.informed, batch.copy is not None)
        agreed = self._agree(view.q_image, batch.copy)
        d_total, terms = objective.d_loss(view, values, self._seed, self.tally)
        g_view = View(view.logits.chunk(2)[1], view.q_params)
        g_total, terms_g = objective.g_loss(g_view, values, self._seed, self.tally)
        contrast = self._contrast(fake, batch.inputs_d)
        d_total = _plus(d_total, contrast)
        g_total = _plus(g_total, contrast, objective.contrastive)
        crossed = self._crossing(batch.inputs_d)
        g_total = _plus(g_total, crossed, self._orthogonal)
        # Both gradients come from the weights before either update.
        for adam, total, keep in ((self.adam_d, d_total, True), (self.adam_g, g_total, False)):
            seed = None if self._seed is None else self._seed.view_as(total)
            grads = torch.autograd.grad(total, adam.trained, seed, retain_graph=keep)
            for parameter, grad in zip(adam.trained, grads, strict=True):
                parameter.grad = grad
        if agreed is not None:
            _add(self.adam_d.trained, agreed.result()[1])
        self._last_update(self.adam_d, self.adam_g)
        return self._report(terms, terms_g, agreed, contrast, crossed)

    def _forget_gradients(self) -> None:
        """Of both networks, before the largest of an iteration's maps are there."""
        self.adam_d.zero_grad()
        self.adam_g.zero_grad()

    def _fake(self, inputs: Inputs, batch: Batch) -> Tensor:
        """G's images as D and Q get to see them."""
        images = self._generate(inputs.latents)
        return images if inputs.maps is None else warp(images, inputs.maps, batch.fill, self._range)

    def _contrast(self, fake: Tensor, inputs: Inputs) -> Tensor | None:
        """L_contr of generated images, if it takes part."""
        if inputs.shared is None:
            return None
        logits = self._compare(self.adam_d.compute, fake)
        return self.objective.contrast(logits, inputs.shared)

    def _crossing(self, inputs: Inputs) -> Tensor | None:
        """L_orth of G, if it takes part."""
        if self._nudges is None:
            return None
        return crossing(self._generate(self._nudges(inputs.latents, inputs.values), False))

    @property
    def _seed(self) -> Tensor | None:
        """What a backward pass begins with: 1, or the loss scale; None leaves the 1 to torch."""
        return self._one if self.loss_scale is None else self.loss_scale.value

    def _agree(self, q_image: Tensor | None, copy: Tensor | None) -> Beside[_Agreement] | None:
        """L_cons and its gradients of D's and Q's weights, if it takes part."""
        if copy is None:
            return None

        def call() -> _Agreement:
            self._d_apart.zero_grad()  # a recording that failed may have left some
            seed = self._weight if self.loss_scale is None else self._weight * self.loss_scale.value
            q_copy = self._look(self._d_apart, copy)
            if self._seed is None:
                disagreement = self.objective.disagreement(q_image, q_copy, None)
                (disagreement * seed).backward()
            else:
                disagreement = self.objective.disagreement(q_image, q_copy, seed)
                _backward(disagreement, seed)
            gradients = []
            for weight in self._d_apart.parameters():
                gradients.append(weight.grad)
                weight.grad = None
            return disagreement.detach(), gradients

        return Beside(self._side, call)

    def _last_update(self, *optimizers: FlatAdam) -> None:
        """What an iteration ends with, and ``meanwhile`` beside it."""
        beside = None if self.meanwhile is None else Beside(self._side, self.meanwhile)
        for adam in optimizers:
            adam.step(self.loss_scale)
        if beside is not None:
            beside.result()

    def _report(
        self,
        terms: Tensor,
        terms_g: Tensor,
        agreed: Beside[_Agreement] | None,
        contrast: Tensor | None = None,
        crossed: Tensor | None = None,
    ) -> Losses:
        if self.loss_scale is not None:
            self.loss_scale.update()
        disagreement = None if agreed is None else agreed.result()[0]
        contrast, crossed = (x if x is None else x.detach() for x in (contrast, crossed))
        return Losses(terms[0], terms_g[0], terms[1:], disagreement, contrast, crossed)


def _plus(total: Tensor, loss: Tensor | None, weight: Tensor | float = 1.0) -> Tensor:
    """A loss with another one, if there is one."""
    return total if loss is None else total + weight * loss


def _backward(loss: Tensor, seed: Tensor | None) -> None:
    """A backward pass that begins with the seed, which the loss was told, or None with 1."""
    loss.backward(None if seed is None else seed.view_as(loss))


_Agreement = tuple[Tensor, Sequence[Tensor | None]]


def _add(weights: Sequence[Tensor], others: Sequence[Tensor | None]) -> None:
    """Add others to the weights' gradients, in place: a launch for each dtype."""
    pairs = [(w.grad, o) for w, o in zip(weights, others, strict=True) if o is not None]
    for gradients, more in same_dtypes(*zip(*pairs, strict=True)):
        torch._foreach_add_(gradients, more)


def same_dtypes(
    some: Sequence[Tensor], others: Sequence[Tensor]
) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Pairs of tensors by their dtype, as torch's operations on many tensors need them."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in some):
        pairs = [(a, b) for a, b in zip(some, others, strict=True) if a.dtype == dtype]
        yield [a for a, _ in pairs], [b for _, b in pairs]
