"""latents on the CPU: the launcher of ``native/latents.cpp``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastinfogan.kernels.dispatch import NATIVE, NATIVE_DTYPES, native_result
from fastinfogan.kernels.latents.layout import empty_results, table_on_device


def latents(
    seed: Tensor,
    offset: Tensor,
    shift: int,
    batch: int,
    noise: int,
    table: Sequence[int],
    words: int,
    width: int,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """``latents`` as the registered op, on the CPU; see ``layout.Layout``."""
    stored = native_result(dtype)
    inputs, values = empty_results(seed, table, batch, width, stored)
    NATIVE.latents(
        NATIVE_DTYPES[stored],
        seed.data_ptr(),
        offset.data_ptr(),
        shift,
        batch,
        noise,
        table_on_device(tuple(table), seed.device).data_ptr(),
        values.shape[1],
        words,
        width,
        inputs.data_ptr(),
        values.data_ptr(),
    )
    return inputs.to(dtype), values
