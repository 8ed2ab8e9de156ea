"""Batches of images: which rows an iteration sees, and their conversion from uint8.

Epoch e visits the N images in the order of a permutation computed on the fly: a Feistel network of
four rounds on the smallest even number of bits that holds N, keyed by (seed, e), walked until it
lands below N (cycle walking; Black and Rogaway 2002, "Ciphers with arbitrary finite domains",
section 3). Position p of a run is image perm_{p div N}(p mod N): every image once an epoch, no
shuffled list kept anywhere, and a run resumes by remembering p.

A byte v becomes low + v (high - low) / 255, in float32 (float64 for a float64 result), rounded once
to the result's dtype.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

import fastinfogan.kernels.gather.registration  # noqa: F401  (registers what op() gives)
from fastinfogan.kernels.dispatch import Impl, choose, op
from fastinfogan.kernels.gather.arguments import (
    Range,
    check_draw,
    check_gather,
    check_indices,
    check_order,
)
from fastinfogan.kernels.gather.layout import FEISTEL_ROUNDS, half_bits_of
from fastinfogan.kernels.philox import STREAM_ORDER, halves, philox_reference


def order_reference(positions: Tensor, count: int, seed: int | Tensor) -> Tensor:
    """Image index of each position of a run.

    Args:
        positions: int64, any shape, 0 or more.
        count: N, the number of images, 1 or more.
        seed: the key, an integer or an int64 tensor of shape (1,).

    Returns:
        int64 indices in [0, N), of the shape of ``positions``.
    """
    half_bits = half_bits_of(count)
    epoch = positions // count
    index = _feistel_reference(positions % count, epoch, half_bits, seed)
    while (outside := index >= count).any():
        walked = _feistel_reference(index, epoch, half_bits, seed)
        index = torch.where(outside, walked, index)
    return index


def _feistel_reference(index: Tensor, epoch: Tensor, half_bits: int, seed: int | Tensor) -> Tensor:
    mask = (1 << half_bits) - 1
    left, right = index >> half_bits, index & mask
    stream = torch.full_like(index, STREAM_ORDER)
    for round_ in range(FEISTEL_ROUNDS):
        keyed = (right << 2) + round_  # half_bits <= 30: fits a 32-bit word
        words = philox_reference(seed, keyed, *halves(epoch), stream)
        left, right = right, left ^ (words[0] & mask)
    return (left << half_bits) | right


def gather_reference(
    images: Tensor,
    indices: Tensor,
    output_range: Range = (0.0, 1.0),
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The images of a batch, as floats.

    Args:
        images: (N, H, W, C) uint8.
        indices: (B,) int64 on the same device.
        output_range: what 0 and 255 become.
        dtype: a float type.

    Returns:
        (B, C, H, W) of ``dtype`` in channels-last memory format; NaN where an index is no image's.
    """
    outside = (indices < 0) | (indices >= len(images))
    rows = images[indices.clamp(0, len(images) - 1)]
    return to_float(rows, output_range, dtype).masked_fill_(outside.view(-1, 1, 1, 1), math.nan)


def draw_reference(
    images: Tensor,
    batch: int,
    seed: int | Tensor,
    position: int | Tensor,
    output_range: Range = (0.0, 1.0),
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """``draw`` in plain torch; seed and position are integers or int64 tensors of shape (1,)."""
    positions = position + torch.arange(batch, device=images.device)
    indices = order_reference(positions, len(images), seed)
    return gather_reference(images, indices, output_range, dtype)


def to_float(images: Tensor, output_range: Range, dtype: torch.dtype = torch.float32) -> Tensor:
    """Bytes as floats.

    Args:
        images: (B, H, W, C) uint8.
        output_range: what 0 and 255 become.
        dtype: a float type.

    Returns:
        (B, C, H, W) of ``dtype``, channels-last.
    """
    low, high = output_range
    computed = torch.float64 if dtype == torch.float64 else torch.float32
    result = images.permute(0, 3, 1, 2).to(computed).mul_((high - low) / 255.0).add_(low)
    return result.to(dtype)


def gather(
    images: Tensor,
    indices: Tensor,
    *,
    output_range: Range = (0.0, 1.0),
    dtype: torch.dtype = torch.float32,
    impl: Impl = "auto",
) -> Tensor:
    """Images by index, as floats.

    Args:
        images: (N, H, W, C) uint8, contiguous.
        indices: (B,) int64 on the same device, contiguous, 0 to N - 1. On a GPU nobody can look
            without waiting for it: there a row of another index is NaN.
        output_range: what 0 and 255 become.
        dtype: float32, bfloat16, float16 or float64.
        impl: see ``dispatch.choose``.

    Returns:
        (B, C, H, W) of ``dtype``, channels-last.

    Raises:
        ValueError: an argument is off: the message names it.
        RuntimeError: ``impl`` can't run here.
    """
    check_gather(images, indices, output_range, dtype)
    impl = choose("gather", impl, images, native=(torch.uint8,), triton=(torch.uint8,))
    if impl == "reference":
        if images.device.type == "cpu" and not torch.compiler.is_compiling():
            check_indices(images, indices)
        return gather_reference(images, indices, output_range, dtype)
    low, high = map(float, output_range)
    return op("gather", impl, images)(images, indices, low, high, dtype)


def draw(
    images: Tensor,
    batch: int,
    seed: Tensor,
    position: Tensor,
    *,
    shift: int = 0,
    output_range: Range = (0.0, 1.0),
    dtype: torch.dtype = torch.float32,
    impl: Impl = "auto",
) -> Tensor:
    """The images of positions ``position + shift`` to ``position + shift + batch - 1`` of a run.

    The host reads neither seed nor position, so that a CUDA graph draws the batch that they name
    when it is replayed.

    Args:
        images: (N, H, W, C) uint8, contiguous.
        batch: images to draw, 1 or more.
        seed, position: int64 of shape (1,) on the same device; meant to be 0 or more, which isn't
            checked (a negative position lies in the epochs before the first).
        shift: added to the position: a rank's share.
        output_range: what 0 and 255 become.
        dtype: float32, bfloat16, float16 or float64.
        impl: see ``dispatch.choose``.

    Returns:
        (B, C, H, W) of ``dtype``, channels-last.

    Raises:
        ValueError: an argument is off: the message names it.
        RuntimeError: ``impl`` can't run here.
    """
    check_draw(images, batch, seed, position, output_range, dtype)
    impl = choose("draw", impl, images, native=(torch.uint8,), triton=(torch.uint8,))
    if impl == "reference":
        return draw_reference(images, batch, seed, position + shift, output_range, dtype)
    low, high = map(float, output_range)
    return op("draw", impl, images)(images, seed, position, shift, batch, low, high, dtype)


def order(positions: Tensor, count: int, seed: Tensor, impl: Impl = "auto") -> Tensor:
    """The image that each position of a run shows: what ``draw`` draws.

    Args:
        positions: int64, any shape but empty.
        count: N, the number of images, 1 or more.
        seed: int64 of shape (1,) on the same device.
        impl: see ``dispatch.choose``.

    Returns:
        int64 indices in [0, N), of the shape of ``positions``.

    Raises:
        ValueError: an argument is off: the message names it.
        RuntimeError: ``impl`` can't run here.
    """
    check_order(positions, count, seed)
    impl = choose("order", impl, positions, native=(torch.int64,), triton=(torch.int64,))
    if impl == "reference":
        return order_reference(positions, count, seed)
    return op("order", impl, positions)(positions.contiguous(), count, seed)
