"""The mean of the weights over the last iterations: what is evaluated, drawn and exported.

A GAN's weights circle around what they look for. Their exponential moving average

    w <- w + (1 - (1 - 1/h)^EVERY) (v - w)          every EVERY iterations, v the weights then

over about h iterations is steadier, and better than most of them. h is ``--average``, but never
more than a tenth of the training so far, so that early weights don't linger. The running statistics
of batchnorm are averaged with the weights that they belong to. Singular vectors aren't: where
weights are scaled their largest singular values become alike, so that the vectors wander, and a
mean of them is short, which makes the scale too large. w has vectors of its own, which each update
brings on. Training itself never sees w.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fastinfogan.device import on_host
from fastinfogan.engine.build import Engine
from fastinfogan.model.singular import NAME, turn
from fastinfogan.model.weights import restore_weights, weights

EVERY = 10  # iterations: a pass over all weights in each would cost a CPU a tenth of it
PART = 10  # of the training so far: one PARTth at most


class Average:
    """G and D with averaged weights, or without averaging the engine's own.

    Args:
        engine: whose weights to average, with its first weights.
        length: h, in iterations; 0 doesn't average.

    Attributes:
        generator, discriminator: the networks to evaluate, draw from and export.
    """

    def __init__(self, engine: Engine, length: int) -> None:
        self.generator: nn.Module = engine.generator
        self.discriminator: nn.Module = engine.discriminator
        self._length = length
        if length:
            self.generator = copy.deepcopy(engine.generator).requires_grad_(False)
            self.discriminator = copy.deepcopy(engine.discriminator).requires_grad_(False)
            learning, means = (
                [*_averaged(x.generator), *_averaged(x.discriminator)] for x in (engine, self)
            )
            self._learning, self._means = learning, means

    def until_next(self, iteration: int) -> int | None:
        """Iterations from here to the next ``update``; None if there will be none."""
        return EVERY - iteration % EVERY if self._length else None

    def update(self, iteration: int) -> None:
        """Take the weights into the mean.

        Args:
            iteration: how many are done, a multiple of ``EVERY``.
        """
        horizon = max(1.0, min(self._length, iteration / PART))
        with torch.no_grad():
            torch._foreach_lerp_(self._means, self._learning, 1 - (1 - 1 / horizon) ** EVERY)
        turn(self.discriminator)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps, copied: nothing where nothing is averaged."""
        if not self._length:
            return {}
        return on_host(
            {
                f"average.{name}.{key}": tensor
                for name in ("generator", "discriminator")
                for key, tensor in weights(getattr(self, name)).items()
            }
        )

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take what ``state`` gave."""
        if self._length:
            restore_weights(self.generator, state, "average.generator.")
            restore_weights(self.discriminator, state, "average.discriminator.")


def _averaged(network: nn.Module) -> list[Tensor]:
    """What there is a mean of."""
    named = weights(network).items()
    return [tensor for name, tensor in named if name.rpartition(".")[2] != NAME]
