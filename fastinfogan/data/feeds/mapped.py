"""Rows of the ingested file, mapped into memory: for more images than fit the device."""

from __future__ import annotations

import torch
from torch import Tensor

from fastinfogan.data.feeds.feed import Batches
from fastinfogan.data.images import ImageData
from fastinfogan.kernels.gather import order
from fastinfogan.sizes import in_bytes


class MappedRows:
    """See ``streamed.Rows``: the images of ``ResidentFeed``, in the same order.

    Args:
        data: the images.
        batches: what is asked for.
    """

    remedy = "--feed resident keeps them on the device"

    def __init__(self, data: ImageData, batches: Batches) -> None:
        self._images, self._batches = torch.from_numpy(data.images), batches
        self._seed = torch.tensor([batches.seed])
        self.shape = data.images.shape[1:]
        self.summary = f"images streamed ({in_bytes(data.images.nbytes)})"

    def read(self, iteration: int, rows: Tensor) -> None:
        """See ``streamed.Rows``."""
        first, last = (iteration * self._batches.size + edge for edge in self._batches.slice)
        indices = order(torch.arange(first, last), len(self._images), self._seed)
        torch.index_select(self._images, 0, indices, out=rows)

    def close(self) -> None:
        """See ``streamed.Rows``: nothing is read ahead."""
