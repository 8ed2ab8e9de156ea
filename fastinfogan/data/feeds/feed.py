"""What every feed is asked for, and what it promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Batches(NamedTuple):
    """What a feed is asked for.

    Each of several ranks gets its own slice of every batch: together they see what one would see.

    Attributes:
        size: images in a batch, of all ranks together.
        seed: fixes the order: each image once an epoch.
        output_range: what 0 and 255 become.
        device: where batches are made.
        dtype: of a batch.
        rank: number of this one, from 0.
        ranks: how many there are.
        neighbours: how many of them share this machine's memory.
    """

    size: int
    seed: int
    output_range: tuple[float, float]
    device: torch.device
    dtype: torch.dtype = torch.float32
    rank: int = 0
    ranks: int = 1
    neighbours: int = 1

    @property
    def slice(self) -> tuple[int, int]:
        """First image of this rank's slice in a batch, and the one past its last."""
        return self.rank * self.size // self.ranks, (self.rank + 1) * self.size // self.ranks


class Feed(Protocol):
    """Batches of a run. Each is a function of its iteration alone, so there is no state to save.

    Attributes:
        device: where the batches are.
        summary: one phrase for the user.
        prepare: what the host has to do before each iteration; None if nothing.
    """

    device: torch.device
    summary: str
    prepare: Callable[[], None] | None

    def seek(self, iteration: int) -> None:
        """Go to iteration number ``iteration`` (from 0)."""

    def begin(self) -> None:
        """Read what the next batch needs, which on a cold disk may take long."""

    def counted_by(self, counter: Tensor) -> int:
        """From now on let who draws with the feed move what it counts on the device.

        Args:
            counter: (1,) int64, where the next batch begins from now on.

        Returns:
            By how much it has to be moved after each batch; 0 if the feed counts elsewhere.
        """

    def next(self) -> Tensor:
        """Real images of the next iteration: (B, C, H, W), channels-last, in output range."""

    def close(self) -> None:
        """End what it has begun, such as threads; no batch is asked for any more."""
