"""A call that runs beside what is under way, on another stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import torch

Made = TypeVar("Made")


class Beside(Generic[Made]):
    """A call that runs at once on another stream, or, without one, when its result is wanted.

    (On a CPU an early call would only keep its activations for longer.) Arguments and result
    outlive the iteration's last use of them on either stream, and each stream waits for the other
    before the next call, so the allocator needs no ``record_stream``, which in a recorded graph
    would keep their memory from being used again.
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
