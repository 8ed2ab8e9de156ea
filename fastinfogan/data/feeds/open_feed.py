"""Chooses the feed of a run: resident, streamed or encoded."""

from __future__ import annotations

from fastinfogan.data.feeds.encoded import EncodedRows
from fastinfogan.data.feeds.feed import Batches, Feed
from fastinfogan.data.feeds.mapped import MappedRows
from fastinfogan.data.feeds.resident import ResidentFeed
from fastinfogan.data.feeds.streamed import StreamedFeed
from fastinfogan.data.images import FeedName, ImageData
from fastinfogan.device import free_memory
from fastinfogan.errors import UserError
from fastinfogan.sizes import in_bytes
from fastinfogan.tell import Tell, on_stderr

BUDGET = 0.25  # of the device's free memory, that images may take without being asked to


def open_feed(
    data: ImageData,
    batches: Batches,
    feed: FeedName = "auto",
    allow_bad: bool = False,
    tell: Tell = on_stderr,
) -> Feed:
    """The feed that ``--feed`` asks for.

    Args:
        data: the images, as ``load_images`` loads them for that feed.
        batches: what is asked of the feed.
        feed: resident: the images stay on the device; streamed: read ahead from the ingested file;
            auto: resident if they take at most a quarter of the device's free memory, or lie in the
            memory that they would be copied to. Images that are encoded still are decoded while
            training.
        allow_bad: see ``EncodedRows``.
        tell: gets a line if images can't keep up with the training, or can't be decoded.

    Raises:
        UserError: ``feed`` is "resident", and the images don't fit.
    """
    if data.encoded is not None:
        return StreamedFeed(EncodedRows(data, batches, allow_bad, tell), batches, tell)
    device = batches.device
    size, free = data.images.nbytes, free_memory(device)
    if device.type == "cpu":  # as many copies as there are ranks on the machine
        free //= batches.neighbours
    there = device.type == "cpu" and data.checksum is None
    if feed == "resident" and not there and size > free:
        raise UserError(
            f"--feed resident: the images take {in_bytes(size)}, and {device} has "
            f"{in_bytes(free)} free; --feed streamed works"
        )
    if feed == "resident" or (feed == "auto" and (there or size <= BUDGET * free)):
        return ResidentFeed(data, batches)
    return StreamedFeed(MappedRows(data, batches), batches, tell)
