"""What every iteration consumes: real images and latents, as functions of the iteration alone."""

from __future__ import annotations

import torch

from fastinfogan.config import TrainConfig
from fastinfogan.data.feeds.feed import Feed
from fastinfogan.kernels.latents import latents
from fastinfogan.model.reference import Batch, Inputs


class Draws:
    """The inputs of every iteration. Where the next ones begin is kept on the device.

    Args:
        config: resolved.
        feed: of real images; its device is where everything is drawn.
        dtype: of the latents.
    """

    def __init__(self, config: TrainConfig, feed: Feed, dtype: torch.dtype) -> None:
        self._spec, self._size, self._dtype = config.spec, config.optim.batch_size, dtype
        self._per_iteration = 2 if config.optim.update == "alternating" else 1
        self._feed = feed
        self._seed = torch.tensor([config.run.seed], device=feed.device)
        self._offset = torch.zeros(1, dtype=torch.int64, device=feed.device)

    def seek(self, iteration: int) -> None:
        """Go to iteration number ``iteration`` (from 0)."""
        self._offset.fill_(self.latent_offset(iteration))
        self._feed.seek(iteration)

    def next(self) -> Batch:
        """What the next iteration consumes."""
        inputs = [self._draw(shift=i * self._size) for i in range(self._per_iteration)]
        self._offset += self.latent_offset(1)
        return Batch(self._feed.next(), inputs[0], inputs[1] if len(inputs) == 2 else None)

    def latent_offset(self, iteration: int) -> int:
        """Latent samples drawn before ``iteration``."""
        return iteration * self._per_iteration * self._size

    def _draw(self, shift: int) -> Inputs:
        spec = self._spec
        return Inputs(
            *latents(
                spec.noise, spec.codes, self._size, self._seed, self._offset, shift=shift,
                dtype=self._dtype,
            )
        )  # fmt: skip
