"""Has the C library keep memory that was freed, for the next tensor of that size."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

# <malloc.h> of the GNU C library
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_NEVER = -1


@cache
def keep_freed_memory() -> bool:
    """From now on, and in all of this process, give no freed memory back to the system.

    The GNU C library gives a block above 32 MiB back to the system when it is freed. The next one
    like it comes in pages of zeros, with a fault for each, and that in every iteration: 4 % of the
    time of ``faces-azimuth``, whose largest weights are that large, and 8 % of
    ``chairs-rotation`` (docs/log.md).

    Returns:
        Whether the C library could be told so. (Where another one takes its place, as jemalloc does
        when it is preloaded, that keeps what it keeps.)
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    # Never a block of its own, whatever its size: a threshold may not be that high in old versions.
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))
