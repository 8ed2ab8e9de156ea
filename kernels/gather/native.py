"""gather, draw and order on the CPU: the launchers of ``native/gather.cpp``."""

from __future__ import annotations

import torch
from torch import Tensor

from fastinfogan.kernels.dispatch import NATIVE, NATIVE_DTYPES, native_result
from fastinfogan.kernels.gather.arguments import no_image
from fastinfogan.kernels.gather.layout import empty_result, half_bits_of


def gather(images: Tensor, indices: Tensor, low: float, high: float, dtype: torch.dtype) -> Tensor:
    """``gather`` as the registered op, on the CPU.

    Raises:
        ValueError: an index is no image's.
    """
    stored = native_result(dtype)
    result = empty_result(images, len(indices), stored)
    count, height, width, channels = images.shape
    outside = NATIVE.gather(
        NATIVE_DTYPES[stored],
        images.data_ptr(),
        count,
        height * width * channels,
        indices.data_ptr(),
        len(indices),
        low,
        (high - low) / 255.0,
        result.data_ptr(),
    )
    if outside >= 0:
        raise no_image(images, indices, outside)
    return result.to(dtype)


def draw(
    images: Tensor,
    seed: Tensor,
    position: Tensor,
    shift: int,
    batch: int,
    low: float,
    high: float,
    dtype: torch.dtype,
) -> Tensor:
    """``draw`` as the registered op, on the CPU."""
    stored = native_result(dtype)
    result = empty_result(images, batch, stored)
    count, height, width, channels = images.shape
    NATIVE.draw(
        NATIVE_DTYPES[stored],
        images.data_ptr(),
        count,
        height * width * channels,
        half_bits_of(count),
        seed.data_ptr(),
        position.data_ptr(),
        shift,
        batch,
        low,
        (high - low) / 255.0,
        result.data_ptr(),
    )
    return result.to(dtype)


def order(positions: Tensor, count: int, seed: Tensor) -> Tensor:
    """``order`` as the registered op, on the CPU."""
    indices = torch.empty_like(positions)
    NATIVE.order(
        positions.data_ptr(),
        positions.numel(),
        count,
        half_bits_of(count),
        seed.data_ptr(),
        indices.data_ptr(),
    )
    return indices
