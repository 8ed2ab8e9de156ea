"""What changes with how far the training is, in steps of a few iterations."""

from __future__ import annotations

from fastinfogan.config import OptimConfig
from fastinfogan.engine.build import Engine
from fastinfogan.training.average import EVERY

GROWS = 1_000  # iterations until L_orth has its weight


class Schedule:
    """Sets an engine's learning rates and the weight of L_orth by how far the training is.

    Over the last ``--decay`` of the training the rates fall linearly, to 0 at its end: with rates
    that stay a GAN's codes go on changing what they mean. ``--orthogonal`` grows from 0: while G
    makes nothing yet, to make nothing is the shortest way to changes that aren't alike.

    Args:
        engine: whose rates to set.
        optim: resolved.
    """

    def __init__(self, engine: Engine, optim: OptimConfig) -> None:
        self._engine, self._total = engine, optim.iterations
        self._over, self._grows = optim.decay * optim.iterations, optim.orthogonal > 0

    def begin(self, iteration: int, count: int) -> int:
        """Set what the iterations from here are to have.

        Args:
            iteration: how many are done.
            count: how many are to come.

        Returns:
            For how many of these it is right.
        """
        step = iteration // EVERY * EVERY
        if self._over:
            self._engine.scale_rates(min(1.0, (self._total - step) / self._over))
        if self._grows:
            self._engine.scale_orthogonal(min(1.0, step / GROWS))
        return min(count, EVERY - iteration + step) if self._over or self._grows else count
