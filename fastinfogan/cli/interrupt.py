"""Ctrl-C outside the training loop: what is said, and how the process ends."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

INTERRUPTED = "interrupted; a run that was saved goes on with train --resume RUN"


@contextlib.contextmanager
def leaving_at_once() -> Iterator[None]:
    """While libraries are imported, Ctrl-C ends the process: some swallow KeyboardInterrupt."""

    def leave(*_: object) -> None:
        with contextlib.suppress(OSError):  # nobody can be told
            os.write(2, f"fastinfogan: {INTERRUPTED}\n".encode())
        os._exit(130)

    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
