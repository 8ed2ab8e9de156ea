"""The resident feed: all images on the device, for as many as fit."""

from __future__ import annotations

import torch
from torch import Tensor

from fastinfogan.data.feeds.feed import Batches
from fastinfogan.data.images import ImageData
from fastinfogan.kernels.gather import draw
from fastinfogan.sizes import in_bytes


class ResidentFeed:
    """All images on the device as uint8; where the next batch begins is kept there too.

    Args:
        data: the images.
        batches: what is asked for.
    """

    prepare = None

    def __init__(self, data: ImageData, batches: Batches) -> None:
        self._batches, self.device = batches, batches.device
        images = torch.from_numpy(data.images)
        mapped = self.device.type == "cpu" and data.checksum is not None  # a file, not memory
        self._images = images.clone() if mapped else images.to(self.device)
        self._seed = torch.tensor([batches.seed], device=self.device)
        self._position = torch.zeros(1, dtype=torch.int64, device=self.device)
        self._moves = True  # the position by itself
        self.summary = f"images resident on {self.device} ({in_bytes(data.images.nbytes)})"

    def seek(self, iteration: int) -> None:
        """See ``feed.Feed``."""
        self._position.fill_(iteration * self._batches.size)

    def begin(self) -> None:
        """See ``feed.Feed``: all is read."""

    def counted_by(self, counter: Tensor) -> int:
        """See ``feed.Feed``."""
        counter.copy_(self._position)
        self._position, self._moves = counter, False
        return self._batches.size

    def next(self) -> Tensor:
        """See ``feed.Feed``."""
        first, last = self._batches.slice
        images = draw(
            self._images,
            last - first,
            self._seed,
            self._position,
            shift=first,
            output_range=self._batches.output_range,
            dtype=self._batches.dtype,
        )
        if self._moves:
            self._position += self._batches.size
        return images

    def close(self) -> None:
        """See ``feed.Feed``: there is nothing to end."""
