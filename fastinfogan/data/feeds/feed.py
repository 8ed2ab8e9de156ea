"""Feeds: where a run's batches of real images come from, and which of the two kinds it gets."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from fastinfogan.data.dataset import ImageData
from fastinfogan.errors import UserError
from fastinfogan.kernels.gather import draw

BUDGET = 0.25  # of the device's free memory, that images may take without being asked to


class Batches(NamedTuple):
    """What a feed is asked for.

    Of several ranks each gets its own slice of every batch: together they see what one would see.
    """

    size: int  # images in a batch, of all ranks together
    seed: int  # fixes the order: each image once an epoch
    output_range: tuple[float, float]  # what 0 and 255 become
    device: torch.device
    dtype: torch.dtype = torch.float32
    rank: int = 0
    ranks: int = 1

    @property
    def slice(self) -> tuple[int, int]:
        """First image of this rank's slice in a batch, and the one past its last."""
        return self.rank * self.size // self.ranks, (self.rank + 1) * self.size // self.ranks


class Feed(Protocol):
    """Batches of a run. Each is a function of its iteration alone, so there is no state to save.

    Attributes:
        device: where the batches are.
        summary: one phrase for the user.
        load: what the host has to do before each iteration; None if nothing.
    """

    device: torch.device
    summary: str
    load: Callable[[], None] | None

    def seek(self, iteration: int) -> None:
        """Go to iteration number ``iteration`` (from 0)."""

    def next(self) -> Tensor:
        """Real images of the next iteration: (B, C, H, W), channels-last, in output range."""

    def note(self) -> str | None:
        """Something the user should know by now, once."""


class ResidentFeed:
    """All images on the device as uint8; where the next batch begins is kept there too."""

    load = None

    def __init__(self, data: ImageData, batches: Batches) -> None:
        self._batches, self.device = batches, batches.device
        images = torch.from_numpy(data.images)
        mapped = self.device.type == "cpu" and data.checksum is not None  # a file, not memory
        self._images = images.clone() if mapped else images.to(self.device)
        self._seed = torch.tensor([batches.seed], device=self.device)
        self._position = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.summary = f"images resident on {self.device} ({data.images.nbytes / 1e6:,.0f} MB)"

    def seek(self, iteration: int) -> None:
        """See ``Feed``."""
        self._position.fill_(iteration * self._batches.size)

    def next(self) -> Tensor:
        """See ``Feed``."""
        first, last = self._batches.slice
        images = draw(
            *(self._images, last - first, self._seed, self._position),
            shift=first,
            output_range=self._batches.output_range,
            dtype=self._batches.dtype,
        )
        self._position += self._batches.size
        return images

    def note(self) -> None:
        """Nothing can go slowly here."""


def open_feed(
    data: ImageData, batches: Batches, resident: Literal["auto", "yes", "no"] = "auto"
) -> Feed:
    """The feed that ``--resident`` asks for.

    auto: resident if the images take at most a quarter of the device's free memory, or lie in
    the memory that they would be copied to.
    """
    device = batches.device
    size, free = data.images.nbytes, free_memory(device)
    there = device.type == "cpu" and data.checksum is None
    if resident == "yes" and not there and size > free:
        raise UserError(
            f"--resident yes: the images take {size / 1e9:.2f} GB, and {device} has "
            f"{free / 1e9:.2f} GB free; --resident no works"
        )
    if resident == "yes" or (resident == "auto" and (there or size <= BUDGET * free)):
        return ResidentFeed(data, batches)
    from fastinfogan.data.feeds.streamed import StreamedFeed

    return StreamedFeed(data, batches)


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on the device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo") as file:
            return next(int(line.split()[1]) << 10 for line in file if "MemAvailable" in line)
    except (OSError, StopIteration):  # not Linux: all there is has to do
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
