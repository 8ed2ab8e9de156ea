"""Calls that run beside what is under way, on another stream."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import torch

Made = TypeVar("Made")

_POOL = 32  # torch's streams of one priority, which it hands out in turn
_streams: dict[tuple[int | None, int], torch.cuda.Stream | None] = {}  # by those they run beside
_apart = False  # whether nothing runs beside anything else


class Beside(Generic[Made]):
    """A call that runs at once on another stream, or, without one, when its result is wanted.

    (On a CPU an early call would only keep its activations for longer.) Arguments must be kept
    until the result is asked for. What the call made is memory of its own stream, and that waits
    for the current one before the next call, so after all who used the result, if they were joined
    by then. So the allocator needs no ``record_stream``, which in a recorded graph would keep
    memory from being used again.
    """

    def __init__(self, stream: torch.cuda.Stream | None, function: Callable[[], Made]) -> None:
        self._stream, self._later = stream, function
        if stream is not None:
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._made = function()

    def result(self) -> Made:
        """What the call returned, for use on the current stream."""
        if self._later is not None:
            if self._stream is None:
                self._made = self._later()
            else:
                torch.cuda.current_stream().wait_stream(self._stream)
            self._later = None
        return self._made


def beside(device: torch.device, function: Callable[[], Made]) -> Beside[Made]:
    """A call beside what the current stream is given until somebody wants its result.

    That is how an op makes two things at a time, of which neither fills a GPU: the caller of the op
    notices nothing. Its arguments must be kept until then.

    Args:
        device: where. Only on a GPU there are streams, and only where torch.compile isn't looking.
        function: the call.
    """
    return Beside(_stream_beside(device), function)


@contextlib.contextmanager
def on_one_stream() -> Iterator[None]:
    """Inside, ops make one thing after the other."""
    global _apart
    before, _apart = _apart, True
    try:
        yield
    finally:
        _apart = before


def _stream_beside(device: torch.device) -> torch.cuda.Stream | None:
    """The one for calls beside the current stream, always the same."""
    # Compiling comes first: what it looks at is looked at again before every call.
    if torch.compiler.is_compiling() or device.type != "cuda" or _apart:
        return None
    current = device.index, torch.cuda.current_stream(device).cuda_stream
    if current not in _streams:
        taken = {stream.cuda_stream for stream in _streams.values() if stream is not None}
        streams = (torch.cuda.Stream(device) for _ in range(_POOL))
        _streams[current] = next((s for s in streams if s.cuda_stream not in taken), None)
    return _streams[current]
