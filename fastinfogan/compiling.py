"""torch.compile and Triton: what they need on this machine."""

from __future__ import annotations

import os
import shutil
import sys

import torch

from fastinfogan.kernels import triton_needs


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
