"""One session of a run: the time it takes, and what ends it early."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any


class Clock:
    """Seconds spent in a run, over all its sessions, and its speed: by the clock on the wall.

    Args:
        before: seconds spent in earlier sessions.
        iteration: iterations done in them.
    """

    def __init__(self, before: float, iteration: int) -> None:
        now = time.monotonic()
        self._origin, self._lap, self._started_at = now - before, now, iteration

    @property
    def total(self) -> float:
        """Seconds in all."""
        return time.monotonic() - self._origin

    def lap(self, iteration: int, batch_size: int) -> dict[str, float]:
        """``images_per_s`` since the last lap, pauses included, and ``seconds`` in all."""
        now = time.monotonic()
        seconds, self._lap = now - self._lap, now
        images = (iteration - self._started_at) * batch_size
        self._started_at = iteration
        return {"images_per_s": round(images / seconds, 1), "seconds": round(self.total, 2)}


# What asks a run to save and stop: people, shutdowns, terminals that close, and batch systems that
# warn. Not every system knows all of them.
STOPPING = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGBREAK")
    if hasattr(signal, name)
)
_INSISTING = (signal.SIGINT, signal.SIGTERM)


# Variable with the number of the process that started this one and must not be outlived.
PARENT = "FASTINFOGAN_PARENT"


def is_orphan() -> bool:
    """Whether the study that started this run is gone: one that is killed can't tell its runs.

    On Windows nothing shows it: what starts Python there may be neither the study nor this process.
    """
    parent = os.environ.get(PARENT)
    return os.name != "nt" and parent is not None and parent != str(os.getppid())


class Signals:
    """Remembers the first signal of ``STOPPING``, so that the loop can save and stop.

    A second SIGINT, or SIGTERM, acts as usual. The others don't, whatever came before: a terminal
    that closes sends SIGHUP twice, a shutdown SIGTERM and SIGHUP. What is ignored already, as
    nohup has it with SIGHUP, stays so. Signals reach only the main thread: elsewhere this does
    nothing.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                if number in _INSISTING or signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._receive)
        return self

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number)
        if number in _INSISTING:
            signal.signal(number, self._previous.pop(signal.Signals(number)))

    def __exit__(self, *exception: object) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())
