"""Ctrl-C outside the training loop: what is said, and how the process ends."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

_GOES_ON = {
    "train": "a run that was saved goes on with train --resume RUN",
    "study": "it goes on with study --out FOLDER",
}


def interrupted(command: str, error: KeyboardInterrupt) -> str:
    """What to say of a Ctrl-C: what it ended knows best how to go on, then the command."""
    advice = str(error) or _GOES_ON.get(command)
    return "interrupted" if advice is None else f"interrupted; {advice}"


@contextlib.contextmanager
def leaving_at_once() -> Iterator[None]:
    """While libraries are imported, Ctrl-C ends the process: some swallow KeyboardInterrupt."""

    def leave(*_: object) -> None:
        with contextlib.suppress(OSError):  # nobody can be told
            os.write(2, b"fastinfogan: interrupted before anything was done\n")
        os._exit(130)

    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
