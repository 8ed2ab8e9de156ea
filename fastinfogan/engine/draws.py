"""What every iteration consumes: real images and latents, as functions of the iteration alone."""

from __future__ import annotations

import torch
from torch import Tensor

from fastinfogan.config import TrainConfig
from fastinfogan.config.jitter import AUGMENT_SHARE
from fastinfogan.data import ImageData
from fastinfogan.data.feeds.feed import Feed
from fastinfogan.kernels.jitter import Jitter
from fastinfogan.kernels.latents import latents
from fastinfogan.kernels.philox import STREAM_COPY, STREAM_FAKE, STREAM_REAL
from fastinfogan.kernels.warp import draw_maps, warp
from fastinfogan.model.reference import Batch, Inputs


def fill_of(data: ImageData, output_range: tuple[float, float], device: torch.device) -> Tensor:
    """What lies beyond an image's border when it is changed: the data's background.

    Args:
        data: the images.
        output_range: what pixels 0 and 255 are to the networks.
        device: where it is wanted.

    Returns:
        (C,) float32.
    """
    low, high = output_range
    return torch.from_numpy(data.background).to(device).float() / 255 * (high - low) + low


class Draws:
    """The inputs of every iteration. Where the next ones begin is kept on the device.

    Args:
        config: resolved.
        feed: of real images; its device is where everything is drawn.
        dtype: of the latents.
        fill: (C,) float32: what lies beyond an image's border, where images are changed.
    """

    def __init__(
        self, config: TrainConfig, feed: Feed, dtype: torch.dtype, fill: Tensor | None = None
    ) -> None:
        optim = config.optim
        self._spec, self._size, self._dtype = config.spec, optim.batch_size, dtype
        self._range = config.architecture.output_range
        self._per_iteration = 2 if optim.update == "alternating" else 1
        self._feed, self._fill = feed, fill
        self._copy = config.jitter if optim.consistency > 0 else None
        self._augment = config.jitter.times(AUGMENT_SHARE) if optim.augment else None
        self._seed = torch.tensor([config.run.seed], device=feed.device)
        self._offset = torch.zeros(1, dtype=torch.int64, device=feed.device)

    def seek(self, iteration: int) -> None:
        """Go to iteration number ``iteration`` (from 0)."""
        self._offset.fill_(self.latent_offset(iteration))
        self._feed.seek(iteration)

    def next(self) -> Batch:
        """What the next iteration consumes."""
        inputs = self._inputs()
        real, copy = self._feed.next(), None
        if self._copy is not None:
            copy = self._changed(real, self._maps(self._copy, STREAM_COPY))
        if self._augment is not None:
            real = self._changed(real, self._maps(self._augment, STREAM_REAL))
        self._offset += self.latent_offset(1)
        return Batch(real, inputs[0], inputs[1] if inputs[1:] else None, copy, self._fill)

    def latent_offset(self, iteration: int) -> int:
        """Latent samples drawn before ``iteration``."""
        return iteration * self._per_iteration * self._size

    def _inputs(self) -> list[Inputs]:
        """Of each update with a draw of its own: D's, then G's. One launch draws for both."""
        spec, samples = self._spec, self._per_iteration * self._size
        drawn = list(
            latents(spec.noise, spec.codes, samples, self._seed, self._offset, dtype=self._dtype)
        )
        if self._augment is not None:
            drawn.append(self._maps(self._augment, STREAM_FAKE, samples))
        parts = zip(*(numbers.split(self._size) for numbers in drawn), strict=True)
        return [Inputs(*part) for part in parts]

    def _maps(self, jitter: Jitter, stream: int, samples: int | None = None) -> Tensor:
        return draw_maps(
            jitter, samples or self._size, self._seed, self._offset, stream,
            output_range=self._range,
        )  # fmt: skip

    def _changed(self, images: Tensor, maps: Tensor) -> Tensor:
        return warp(images, maps, self._fill, self._range)
