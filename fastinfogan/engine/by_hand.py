"""Iterations of small fully connected networks without autograd, which takes longer than they."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fastinfogan.config import TrainConfig
from fastinfogan.engine.flat import FlatAdam
from fastinfogan.engine.objective import Objective, View
from fastinfogan.kernels.activation import numbered
from fastinfogan.kernels.dense.layout import DTYPES
from fastinfogan.kernels.dense.prepared import Prepared
from fastinfogan.kernels.dense.rule import fits
from fastinfogan.kernels.dispatch import choose
from fastinfogan.model.block import flattened
from fastinfogan.model.networks import Dense
from fastinfogan.model.reference import Inputs


class Layers:
    """A network that is one ``Dense``, as the kernel has it.

    Args:
        dense: its layers.
    """

    def __init__(self, dense: Dense) -> None:
        maps = [block.op for block in dense.blocks]
        self.weights, self.biases = [m.weight for m in maps], [m.bias for m in maps]
        self.parameters = self.weights + [bias for bias in self.biases if bias is not None]
        self.kinds, self.slopes = zip(*map(numbered, dense.activations), strict=True)

    def fit(self, rows: int) -> bool:
        """Whether so many rows of them are the kernel's work."""
        return fits(rows, [weight.shape for weight in self.weights], self.kinds)

    def prepared(self, rows: int, y: Tensor | None = None) -> Prepared:
        """Passes of so many rows; see ``dense.prepared``."""
        return Prepared(rows, self.weights, self.biases, self.kinds, self.slopes, y)


class Trio:
    """G, D and Q, each of which is one ``Dense``: both updates of an alternating iteration.

    All that an iteration makes on the way lies in the same memory each time: G's images behind the
    real ones, so that D reads all in one pass.

    Args:
        batch: images, real ones or generated.
        objective: what is minimised.
        g, d, q: the layers.
        adam_g, adam_d: the optimisers of G, and of D with Q.
    """

    def __init__(
        self,
        batch: int,
        objective: Objective,
        g: Layers,
        d: Layers,
        q: Layers,
        adam_g: FlatAdam,
        adam_d: FlatAdam,
    ) -> None:
        weight = g.weights[-1]
        images = weight.new_empty((2 * batch, weight.shape[0]))
        self._weight, self._images = weight, images
        self._real, self._fake = images[:batch], images[batch:]
        self._g = g.prepared(batch, self._fake)
        self._d, self._d_fake = d.prepared(2 * batch), d.prepared(batch)
        self._q = q.prepared(batch)
        self._d_loss = objective.prepared("d_loss", View(self._d.y.squeeze(1), self._q.y))
        self._g_loss = objective.prepared("g_loss", View(self._d_fake.y.squeeze(1), self._q.y))
        self._d_dlogits = self._d_loss.dlogits.unsqueeze(1)
        self._g_dlogits = self._g_loss.dlogits.unsqueeze(1)
        self._gradients_d = [
            *zip(d.parameters, self._d.gradients, strict=True),
            *zip(q.parameters, self._q.gradients, strict=True),
        ]
        self._gradients_g = list(zip(g.parameters, self._g.gradients, strict=True))
        self._adams = adam_g, adam_d
        self._update_d = _update(adam_d, self._gradients_d)
        self._update_g = _update(adam_g, self._gradients_g)

    def runs(self) -> bool:
        """Whether the kernels run here, and would be chosen."""
        return _chosen(self._weight) and all(adam.whole for adam in self._adams)

    @torch.no_grad()
    def step_d(self, real: Tensor, inputs: Inputs) -> Tensor:
        """D and Q learn; the terms of what they minimise."""
        self._g.forward(inputs.latents)
        self._real.copy_(flattened(real))
        self._d.forward(self._images)
        self._q.forward(self._fake)
        terms = self._d_loss(inputs.values)
        self._d.backward(self._d_dlogits, wants_x=False, learns=True)
        self._q.backward(self._d_loss.dq_params, wants_x=False, learns=True)
        _leave(self._gradients_d)
        self._update_d()
        return terms

    @torch.no_grad()
    def step_g(self, inputs: Inputs) -> Tensor:
        """G learns; the terms of what it minimises."""
        self._g.forward(inputs.latents)
        self._d_fake.forward(self._fake)
        self._q.forward(self._fake)
        terms = self._g_loss(inputs.values)
        gradient = self._d_fake.backward(self._g_dlogits, wants_x=True, learns=False)
        gradient += self._q.backward(self._g_loss.dq_params, wants_x=True, learns=False)
        self._g.backward(gradient, wants_x=False, learns=True)
        _leave(self._gradients_g)
        self._update_g()
        return terms


_Gradients = list[tuple[Tensor, Tensor]]  # of parameters, each with its own


def _leave(gradients: _Gradients) -> None:
    """Where autograd would."""
    for parameter, gradient in gradients:
        parameter.grad = gradient


def _update(adam: FlatAdam, gradients: _Gradients) -> Callable[[], None]:
    """A step of the optimiser from these."""
    found = {id(parameter): gradient for parameter, gradient in gradients}
    return adam.prepared([found[id(parameter)] for parameter in adam.trained])


def _chosen(weight: Tensor) -> bool:
    return choose("dense", "auto", weight, native=DTYPES, triton=()) == "native"


def trio_of(
    config: TrainConfig, objective: Objective, adam_g: FlatAdam, adam_d: FlatAdam
) -> Trio | None:
    """The networks for iterations by hand; None where one of them, or the run, has more to it.

    Args:
        config: resolved.
        objective: what is minimised.
        adam_g, adam_d: the optimisers; passes run on what they ``compute`` with.
    """
    optim, g, d = config.optim, adam_g.compute, adam_d.compute
    if optim.update != "alternating" or type(adam_d) is not FlatAdam:
        return None
    more = optim.changes_images or optim.contrastive > 0 or optim.orthogonal > 0
    if d.q_trunk is None or optim.objective != "infogan" or more:
        return None
    stacks = (g.parts, d.d_parts, d.q_parts)
    if not all(len(parts) == 1 and isinstance(parts[0], Dense) for parts in stacks):
        return None
    g, d, q = (Layers(parts[0]) for parts in stacks)
    if not _chosen(g.weights[0]) or not all(part.fit(2 * optim.batch_size) for part in (g, d, q)):
        return None
    return Trio(optim.batch_size, objective, g, d, q, adam_g, adam_d)
