"""The most memory that this process has taken: how bench measures it, on any device."""

from __future__ import annotations

import resource
from pathlib import Path

import torch


def peak_bytes(device: torch.device) -> int:
    """The most memory that this process has taken so far, in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        # Not getrusage: on Linux its maximum begins with that of the parent process.
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
