"""The resident feed: all images on the device as uint8, batches drawn there."""

from __future__ import annotations

import torch
from torch import Tensor

from fastinfogan.data.base import ImageData
from fastinfogan.kernels.gather import gather_reference, order_reference

# Batches whose order is computed at a time: on a CPU one batch's takes milliseconds, all of it
# overhead of small tensors, and 64 batches' hardly longer.
BLOCK = 64


class ResidentFeed:
    """Batches of a run: each image once an epoch, in an order that the seed fixes.

    A batch is a function of its iteration alone, so there is no state to save.
    """

    def __init__(
        self,
        data: ImageData,
        batch_size: int,
        seed: int,
        output_range: tuple[float, float],
        device: torch.device,
    ) -> None:
        self.images = torch.from_numpy(data.images).to(device)
        self.batch_size, self.seed, self.output_range = batch_size, seed, output_range
        self._block: int | None = None
        self._order = torch.empty(0)

    def batch(self, iteration: int) -> Tensor:
        """Real images of one iteration: (B, C, H, W) float32, channels-last, in output range."""
        block, at = divmod(iteration, BLOCK)
        if block != self._block:
            size = BLOCK * self.batch_size
            positions = torch.arange(block * size, (block + 1) * size, device=self.images.device)
            self._order = order_reference(positions, len(self.images), self.seed)
            self._block = block
        indices = self._order[at * self.batch_size : (at + 1) * self.batch_size]
        return gather_reference(self.images, indices, self.output_range)
