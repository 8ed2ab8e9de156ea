"""Which layers a CPU takes from torch, by the processor and shapes alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fastinfogan.kernels.dispatch import NATIVE, THREADED

# MKL runs code for AVX2 on other makers' processors, however wide their own vectors are.
MKL_IS_NARROW = (
    NATIVE is not None
    and torch.backends.mkl.is_available()
    and NATIVE.cpu_vendor() not in ("", "GenuineIntel")
    and NATIVE.cpu_features()["avx512f"]
)
LEAST_PRODUCTS = 1 << 24  # below, what a call costs is more than what it saves
LEAST_SIDE = 32  # of the weight


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
