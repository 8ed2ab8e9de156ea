"""The resident feed: all images on the device as uint8, batches drawn there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from fastinfogan.data.base import ImageData
from fastinfogan.kernels.gather import draw


class Feed(Protocol):
    """Batches of a run: each image once an epoch, in an order that the seed fixes.

    A batch is a function of its iteration alone, so there is no state to save.

    Attributes:
        load: what the host has to do before each iteration; None if nothing.
    """

    device: torch.device
    load: Callable[[], None] | None

    def seek(self, iteration: int) -> None:
        """Go to iteration number ``iteration`` (from 0)."""

    def next(self) -> Tensor:
        """Real images of the next iteration: (B, C, H, W), channels-last, in output range."""


class ResidentFeed:
    """Images on the device; where the next batch begins is kept there too."""

    load = None

    def __init__(
        self,
        data: ImageData,
        batch_size: int,
        seed: int,
        output_range: tuple[float, float],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.device = device
        self._images = torch.from_numpy(data.images).to(device)
        self._size, self._range, self._dtype = batch_size, output_range, dtype
        self._seed = torch.tensor([seed], device=device)
        self._position = torch.zeros(1, dtype=torch.int64, device=device)

    def seek(self, iteration: int) -> None:
        """Go to iteration number ``iteration`` (from 0)."""
        self._position.fill_(iteration * self._size)

    def next(self) -> Tensor:
        """Real images of the next iteration: (B, C, H, W), channels-last, in output range."""
        images = draw(
            self._images, self._size, self._seed, self._position,
            output_range=self._range, dtype=self._dtype,
        )  # fmt: skip
        self._position += self._size
        return images
