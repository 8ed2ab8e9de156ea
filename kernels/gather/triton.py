"""gather, draw and order on a GPU: Triton kernels and their launchers."""

from __future__ import annotations

import torch
from torch import Tensor

from fastinfogan.kernels.gather.layout import FEISTEL_ROUNDS, empty_result, half_bits_of
from fastinfogan.kernels.philox import STREAM_ORDER
from fastinfogan.kernels.triton_math import philox
from fastinfogan.kernels.triton_module import await_previous, jit, launch, tl

_BLOCK = 1024  # pixels of a program: 8 in each of 128 threads


@jit
def _feistel(index, epoch, half_bits, seed, STREAM: tl.constexpr, ROUNDS: tl.constexpr):
    mask = (1 << half_bits) - 1
    left, right = index >> half_bits, index & mask
    for round_ in tl.static_range(ROUNDS):
        word, _, _, _ = philox(seed, (right << 2) + round_, epoch, epoch >> 32, STREAM)
        left, right = right, left ^ (word.to(tl.int64) & mask)
    return (left << half_bits) | right


@jit
def _image_at(position, count, half_bits, seed, STREAM: tl.constexpr, ROUNDS: tl.constexpr):
    """Index of the image at a position (scalars)."""
    epoch, index = position // count, position % count
    if index < 0:  # C's remainder of a negative number
        epoch -= 1
        index += count
    index = _feistel(index, epoch, half_bits, seed, STREAM, ROUNDS)
    while index >= count:
        index = _feistel(index, epoch, half_bits, seed, STREAM, ROUNDS)
    return index


@jit
def _copy_image(
    result_ptr,  # (batch, height, width, channels), any float
    images_ptr,  # (count, height, width, channels) uint8
    index,
    count,
    size,
    LOW: tl.constexpr,
    SCALE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Pixels of block program_id(1) of image ``index`` to row program_id(0)."""
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    valid = (index >= 0) & (index < count)
    byte = tl.load(images_ptr + index * size + at, mask=at < tl.where(valid, size, 0), other=0)
    dtype: tl.constexpr = result_ptr.dtype.element_ty
    if dtype == tl.float64:
        value = byte.to(tl.float64) * SCALE + LOW
    else:
        value = byte.to(tl.float32) * SCALE + LOW
    value = tl.where(valid, value, float("nan"))
    row = tl.program_id(0).to(tl.int64)
    tl.store(result_ptr + row * size + at, value.to(dtype), mask=at < size)


@jit
def _gather_kernel(
    result_ptr,  # (batch, height, width, channels), any float
    images_ptr,  # (count, height, width, channels) uint8
    indices_ptr,  # (batch,) int64
    count,
    size,
    LOW: tl.constexpr,
    SCALE: tl.constexpr,
    BLOCK: tl.constexpr,
    EARLY: tl.constexpr,
):
    await_previous(EARLY)
    index = tl.load(indices_ptr + tl.program_id(0))
    _copy_image(result_ptr, images_ptr, index, count, size, LOW, SCALE, BLOCK)


@jit
def _draw_kernel(
    result_ptr,  # (batch, height, width, channels), any float
    images_ptr,  # (count, height, width, channels) uint8
    seed_ptr,  # (1,) int64
    position_ptr,  # (1,) int64
    shift,
    half_bits,
    count,
    size,
    STREAM: tl.constexpr,
    ROUNDS: tl.constexpr,
    LOW: tl.constexpr,
    SCALE: tl.constexpr,
    BLOCK: tl.constexpr,
    EARLY: tl.constexpr,
):
    await_previous(EARLY)
    seed = tl.load(seed_ptr)
    position = tl.load(position_ptr) + shift + tl.program_id(0)
    index = _image_at(position, count, half_bits, seed, STREAM, ROUNDS)
    _copy_image(result_ptr, images_ptr, index, count, size, LOW, SCALE, BLOCK)


@jit
def _order_kernel(
    indices_ptr,  # (n,) int64
    positions_ptr,  # (n,) int64
    seed_ptr,  # (1,) int64
    half_bits,
    count,
    STREAM: tl.constexpr,
    ROUNDS: tl.constexpr,
    EARLY: tl.constexpr,
):
    await_previous(EARLY)
    at = tl.program_id(0)
    position, seed = tl.load(positions_ptr + at), tl.load(seed_ptr)
    tl.store(indices_ptr + at, _image_at(position, count, half_bits, seed, STREAM, ROUNDS))


def gather(images: Tensor, indices: Tensor, low: float, high: float, dtype: torch.dtype) -> Tensor:
    """``gather`` as the registered op, on a GPU or interpreted."""
    count, height, width, channels = images.shape
    size, batch = height * width * channels, len(indices)
    result = empty_result(images, batch, dtype)
    launch(
        _gather_kernel,
        (batch, -(-size // _BLOCK)),
        result,
        images,
        indices,
        count,
        size,
        LOW=low,
        SCALE=(high - low) / 255.0,
        BLOCK=_BLOCK,
        num_warps=4,
    )
    return result


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
    """``draw`` as the registered op, on a GPU or interpreted."""
    count, height, width, channels = images.shape
    size = height * width * channels
    result = empty_result(images, batch, dtype)
    launch(
        _draw_kernel,
        (batch, -(-size // _BLOCK)),
        result,
        images,
        seed,
        position,
        shift,
        half_bits_of(count),
        count,
        size,
        STREAM=STREAM_ORDER,
        ROUNDS=FEISTEL_ROUNDS,
        LOW=low,
        SCALE=(high - low) / 255.0,
        BLOCK=_BLOCK,
        num_warps=4,
    )
    return result


def order(positions: Tensor, count: int, seed: Tensor) -> Tensor:
    """``order`` as the registered op, on a GPU or interpreted."""
    indices = torch.empty_like(positions)
    launch(
        _order_kernel,
        (positions.numel(),),
        indices,
        positions,
        seed,
        half_bits_of(count),
        count,
        STREAM=STREAM_ORDER,
        ROUNDS=FEISTEL_ROUNDS,
        num_warps=1,
    )
    return indices
