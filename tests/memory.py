"""How much memory a piece of code takes at most."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Iterator


@contextlib.contextmanager
def memory_below(limit: float) -> Iterator[None]:
    """Fail if Python, numpy and the decompressors hold more than ``limit`` bytes inside."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < limit
