"""Feeds: where a run's batches of real images come from, and which of the two kinds it gets."""

from __future__ import annotations

import os
from typing import Literal, Protocol

import torch
from torch import Tensor

from fastinfogan.data.base import ImageData
from fastinfogan.errors import UserError
from fastinfogan.kernels.gather import gather_reference, order_reference

# Batches whose order is computed at a time: on a CPU one batch's takes milliseconds, all of it
# overhead of small tensors, and 64 batches' hardly longer.
BLOCK = 64
BUDGET = 0.25  # of the device's free memory, that images may take without being asked to


class Feed(Protocol):
    """Batches of a run: each image once an epoch, in an order that the seed fixes.

    A batch is a function of its iteration alone, so there is no state to save. Of several ranks
    each gets its own slice of every batch: together they see what one would see.
    """

    summary: str  # one phrase for the user

    def batch(self, iteration: int) -> Tensor:
        """Real images of one iteration: (B, C, H, W) float32, channels-last, in output range."""

    def note(self) -> str | None:
        """Something the user should know by now, once."""


class Order:
    """Which images each iteration sees: rank ``rank``'s slice of a batch of ``batch_size``."""

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        device: torch.device,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self._count, self._batch_size, self._seed, self._device = count, batch_size, seed, device
        self._slice = rank * batch_size // ranks, (rank + 1) * batch_size // ranks
        self._block: int | None = None
        self._indices = torch.empty(0)

    @property
    def size(self) -> int:
        """Images in this rank's slice."""
        return self._slice[1] - self._slice[0]

    def indices(self, iteration: int) -> Tensor:
        """int64 (size,) on the device."""
        block, at = divmod(iteration, BLOCK)
        if block != self._block:
            size = BLOCK * self._batch_size
            positions = torch.arange(block * size, (block + 1) * size, device=self._device)
            self._indices = order_reference(positions, self._count, self._seed)
            self._block = block
        begin, end = (at * self._batch_size + edge for edge in self._slice)
        return self._indices[begin:end]


class ResidentFeed:
    """All images on the device as uint8, batches drawn there."""

    def __init__(
        self,
        data: ImageData,
        batch_size: int,
        seed: int,
        output_range: tuple[float, float],
        device: torch.device,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.images = torch.from_numpy(data.images).to(device)
        self.order = Order(len(data), batch_size, seed, device, rank, ranks)
        self.output_range = output_range
        self.summary = f"images resident on {device} ({data.images.nbytes / 1e6:,.0f} MB)"

    def batch(self, iteration: int) -> Tensor:
        """See ``Feed``."""
        return gather_reference(self.images, self.order.indices(iteration), self.output_range)

    def note(self) -> None:
        """Nothing can go slowly here."""


def open_feed(
    data: ImageData,
    batch_size: int,
    seed: int,
    output_range: tuple[float, float],
    device: torch.device,
    resident: Literal["auto", "yes", "no"] = "auto",
    rank: int = 0,
    ranks: int = 1,
) -> Feed:
    """The feed that ``--resident`` asks for.

    auto: resident if the images take at most a quarter of the device's free memory, or lie in
    the memory that they would be copied to.
    """
    arguments = (data, batch_size, seed, output_range, device, rank, ranks)
    size, free = data.images.nbytes, free_memory(device)
    there = device.type == "cpu" and data.checksum is None
    if resident == "yes" and not there and size > free:
        raise UserError(
            f"--resident yes: the images take {size / 1e9:.2f} GB, and {device} has "
            f"{free / 1e9:.2f} GB free; --resident no works"
        )
    if resident == "yes" or (resident == "auto" and (there or size <= BUDGET * free)):
        return ResidentFeed(*arguments)
    from fastinfogan.data.stream import StreamedFeed

    return StreamedFeed(*arguments)


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on the device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo") as file:
            return next(int(line.split()[1]) << 10 for line in file if "MemAvailable" in line)
    except (OSError, StopIteration):  # not Linux: all there is has to do
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
