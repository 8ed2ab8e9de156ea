"""How many processors this process may use, which may be fewer than there are."""

from __future__ import annotations

import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # a container's: microseconds in each period, or "max"


def usable_cores() -> int:
    """What the affinity (batch systems, ``taskset``) and the container's quota leave, 1 or more.

    More threads than that don't share the time; they wait for each other, spinning.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = map(int, QUOTA.read_text().split())
    except (OSError, ValueError):  # no such file, or "max"
        return cores or 1
    return max(1, min(cores or 1, -(-quota // max(1, period))))
