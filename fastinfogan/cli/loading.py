"""While libraries load: nothing is collected, and Ctrl-C ends the process at once."""

from __future__ import annotations

import atexit
import contextlib
import gc
from collections.abc import Iterator

from fastinfogan.cli.interrupt import leaving_at_once


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """For imports of torch and what builds on it, which make a million objects that stay.

    Looking through all of them again and again, then and while training begins, takes a fifth of
    the time to the first iteration. At the end they are collected like any others: some libraries
    complain of what they find left.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        with leaving_at_once():
            yield
        gc.freeze()
        atexit.register(gc.unfreeze)
    finally:
        if collecting:
            gc.enable()
