"""Saving while a run trains: when it is due, and a thread that writes what was copied for it."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

Work = Callable[[], None]

# Where time decides, saving is due after so many seconds, and so many times what it took: it costs
# 2 % of the time at most, however slow the disk and however large the networks.
LEAST, TIMES = 60.0, 50


class Rhythm:
    """When something that is saved now and then is due.

    Args:
        every: every so many iterations, exactly; 0: never; None: by time.
    """

    def __init__(self, every: int | None) -> None:
        self._every = every
        self._next = time.monotonic() + LEAST

    def due(self, iteration: int) -> bool:
        """Whether to save after so many iterations."""
        if self._every is None:
            return iteration > 0 and time.monotonic() >= self._next
        return self._every > 0 and iteration > 0 and iteration % self._every == 0

    def timed(self, copy: Callable[[], Work]) -> Work:
        """Copy what is to be saved, which is then not due by time until a while after it is saved.

        Args:
            copy: gives the work of saving it.

        Returns:
            That work.
        """
        begun, self._next = time.monotonic(), math.inf
        work = copy()

        def timed() -> None:
            work()
            now = time.monotonic()
            self._next = now + max(LEAST, TIMES * (now - begun))

        return timed


class Saver:
    """Does one piece of work after the other in a thread beside the training.

    What goes wrong there is raised in the thread that trains: by ``look`` or ``wait``, or at the
    end of the ``with`` block, where it takes the place of an error of the training: what is saved
    is from before. Whatever ends the block, all work is finished there.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "saving")
        self._work: deque[Future[None]] = deque()

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._thread.shutdown()  # waits
        if error is None or isinstance(error, Exception):
            self.wait()

    def start(self, work: Work) -> None:
        """Hand over work; what it reads must not change any more."""
        self._work.append(self._thread.submit(work))

    def look(self) -> None:
        """Raise what went wrong in work that is done by now."""
        while self._work and self._work[0].done():
            self._work.popleft().result()

    def wait(self) -> None:
        """Return once nothing is being saved."""
        while self._work:
            self._work.popleft().result()
