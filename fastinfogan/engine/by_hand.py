"""Passes through small fully connected networks without autograd, which takes longer than they."""

from __future__ import annotations

from torch import Tensor

from fastinfogan.config import TrainConfig
from fastinfogan.kernels.activation import numbered
from fastinfogan.kernels.dense.layout import DTYPES, fits
from fastinfogan.kernels.dense.prepared import Prepared
from fastinfogan.kernels.dispatch import choose
from fastinfogan.model.networks import Dense, Discriminator, Generator, flattened


class Passes:
    """A network that is one ``Dense``, forward and backward.

    What a pass returns lasts until the network's next one with as many images.

    Args:
        dense: its layers.
    """

    def __init__(self, dense: Dense) -> None:
        maps = [block.op for block in dense.blocks]
        self._shaped = dense.shaped
        self.weights, self._biases = [m.weight for m in maps], [m.bias for m in maps]
        self._parameters = self.weights + [bias for bias in self._biases if bias is not None]
        self.kinds, self._slopes = zip(*map(numbered, dense.activations), strict=True)
        self._prepared: dict[int, Prepared] = {}
        self._last: Prepared | None = None

    def forward(self, x: Tensor) -> Tensor:
        """What comes out."""
        x, rows = flattened(x).contiguous(), x.shape[0]
        if rows not in self._prepared:
            self._prepared[rows] = Prepared(
                rows, self.weights, self._biases, self.kinds, self._slopes
            )
        self._last = self._prepared[rows]
        return self._shaped(self._last.forward(x))

    def backward(self, dy: Tensor, wants_x: bool, learns: bool) -> Tensor | None:
        """Of the last pass: the gradient of what went in, as rows, if wanted.

        If the network learns, its parameters get theirs.
        """
        dx = self._last.backward(flattened(dy).contiguous(), wants_x, learns)
        if learns:
            for parameter, gradient in zip(self._parameters, self._last.gradients, strict=True):
                parameter.grad = gradient
        return dx


class Trio:
    """G, D and Q, each of which is one ``Dense``."""

    def __init__(self, g: Dense, d: Dense, q: Dense) -> None:
        self.g, self.d, self.q = Passes(g), Passes(d), Passes(q)

    def runs(self) -> bool:
        """Whether the kernels run here, and would be chosen."""
        weight = self.g.weights[0]
        return choose("dense", "auto", weight, native=DTYPES, triton=()) == "native"


def trio_of(config: TrainConfig, g: Generator, d: Discriminator) -> Trio | None:
    """The networks for passes by hand; None where one of them, or the run, has more to it.

    Args:
        config: resolved.
        g, d: what passes run on.
    """
    optim = config.optim
    more = optim.changes_images or optim.contrastive > 0
    if d.q_trunk is None or optim.objective != "infogan" or more:
        return None
    stacks = (g.parts, d.d_parts, d.q_parts)
    if not all(len(parts) == 1 and isinstance(parts[0], Dense) for parts in stacks):
        return None
    trio = Trio(*(parts[0] for parts in stacks))
    rows = 2 * optim.batch_size
    whole = all(fits(rows, part.weights, part.kinds) for part in (trio.g, trio.d, trio.q))
    return trio if whole else None
