"""Chooses the feed of a run: resident or streamed."""

from __future__ import annotations

from typing import Literal

from fastinfogan.data.feeds.feed import Batches, Feed
from fastinfogan.data.feeds.resident import ResidentFeed
from fastinfogan.data.feeds.streamed import StreamedFeed
from fastinfogan.data.images import ImageData
from fastinfogan.device import free_memory
from fastinfogan.errors import UserError
from fastinfogan.sizes import in_bytes
from fastinfogan.tell import Tell, on_stderr

BUDGET = 0.25  # of the device's free memory, that images may take without being asked to


def open_feed(
    data: ImageData,
    batches: Batches,
    resident: Literal["auto", "yes", "no"] = "auto",
    tell: Tell = on_stderr,
) -> Feed:
    """The feed that ``--resident`` asks for.

    Args:
        data: the images.
        batches: what is asked of the feed.
        resident: whether the images stay on the device; auto: if they take at most a quarter of
            its free memory, or lie in the memory that they would be copied to.
        tell: gets a line if reading images can't keep up with the training.

    Raises:
        UserError: ``resident`` is "yes", and the images don't fit.
    """
    device = batches.device
    size, free = data.images.nbytes, free_memory(device)
    if device.type == "cpu":  # as many copies as there are ranks on the machine
        free //= batches.neighbours
    there = device.type == "cpu" and data.checksum is None
    if resident == "yes" and not there and size > free:
        raise UserError(
            f"--resident yes: the images take {in_bytes(size)}, and {device} has "
            f"{in_bytes(free)} free; --resident no works"
        )
    if resident == "yes" or (resident == "auto" and (there or size <= BUDGET * free)):
        return ResidentFeed(data, batches)
    return StreamedFeed(data, batches, tell)
