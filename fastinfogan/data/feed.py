"""The resident feed: all images on the device as uint8, batches drawn there."""

from __future__ import annotations

import torch
from torch import Tensor

from fastinfogan.data.base import ImageData
from fastinfogan.kernels.gather import draw


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
        self.batch_size, self.output_range = batch_size, output_range
        self._seed = torch.tensor([seed], device=device)
        self._start = torch.tensor([0], device=device)

    def batch(self, iteration: int) -> Tensor:
        """Real images of one iteration: (B, C, H, W) float32, channels-last, in output range."""
        shift = iteration * self.batch_size
        return draw(
            *(self.images, self.batch_size, self._seed, self._start),
            shift=shift,
            output_range=self.output_range,
        )
