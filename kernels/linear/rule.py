"""Who multiplies a CPU's layers, ours, oneDNN or torch: by the processor and shapes alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fastinfogan.kernels.dispatch import NATIVE, THREADED
from fastinfogan.kernels.linear.library import HAS_ONEDNN

VENDOR = "" if NATIVE is None else NATIVE.cpu_vendor()  # "": unknown
INTEL = VENDOR == "GenuineIntel"

# MKL runs code for AVX2 on other makers' processors, however wide their own vectors are.
MKL_IS_NARROW = (
    VENDOR != ""
    and not INTEL
    and torch.backends.mkl.is_available()
    and NATIVE.cpu_features()["avx512f"]
)
LEAST_PRODUCTS = 1 << 24  # below, what a call costs is more than what it saves
LEAST_SIDE = 32  # of the weight

# From which on oneDNN's way forward is the faster one.
LONG_SUM = 1024  # inputs
LEAST_OUTPUTS = 128
LEAST_FORWARD = 1 << 26  # products


def native_is_faster(dtype: torch.dtype, rows: int, weight: Sequence[int]) -> bool:
    """Whether "auto" takes our products: measured over the presets' layers (docs/kernels.md).

    Args:
        dtype: of inputs and weight. Half precision is oneDNN's, which knows all processors.
        rows: the inputs'.
        weight: its shape.
    """
    outputs, inputs = weight
    large = rows * outputs * inputs >= LEAST_PRODUCTS and min(weight) >= LEAST_SIDE
    return THREADED and MKL_IS_NARROW and dtype == torch.float32 and large


def onednn_is_faster(dtype: torch.dtype, rows: int, weight: Sequence[int]) -> bool:
    """Whether "auto" takes the way forward from oneDNN, and torch's own products going back.

    Measured over the presets' layers on an Intel processor (docs/kernels.md): 1.1 to 1.35 times
    the speed of MKL, which torch asks, with AVX-512, and 1.0 to 1.1 with both kept to AVX2. On
    others' it is unmeasured.

    Args:
        dtype, rows, weight: as above. In half precision torch asks oneDNN by itself.
    """
    outputs, inputs = weight
    long = inputs >= LONG_SUM and outputs >= LEAST_OUTPUTS
    large = rows * outputs * inputs >= LEAST_FORWARD
    return INTEL and HAS_ONEDNN and dtype == torch.float32 and long and large
