"""torch.compile: whether this machine has what it needs, and whether it pays for a run."""

from __future__ import annotations

import os
import shutil
import sys

import torch

from fastinfogan.kernels import triton_needs

# A run of fewer iterations waits longer for the compiler than it saves: on an H200 (mnist, --amp)
# it took 14 s more to begin and 44 us less an iteration, when more was left to compile than now.
PAYS_FROM = 300_000


def missing(device: torch.device) -> str:
    """What compiling for a device needs and doesn't find, in one phrase; "" if it has all."""
    if device.type == "cuda":
        return triton_needs.MISSING
    if sys.platform == "win32":  # the compiler there is found by the registry, not by its name
        return ""
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        return f"there is no C++ compiler ({compiler}; CXX names another)"
    return triton_needs.missing_headers()


def why_not(device: torch.device, iterations: int) -> str:
    """Why a run on a GPU that leaves it open isn't compiled, for the user; "" if it is.

    Args:
        device: a GPU.
        iterations: of the whole run, so that whoever continues it decides alike.
    """
    if lacks := missing(device):
        return f"{lacks}; the kernels run as plain PyTorch"
    if iterations < PAYS_FROM:
        return f"{iterations:,} iterations would save less than it takes; --compile does it anyway"
    return ""
