"""The gradients of conv's weight and bias in Triton: kernels, and their launcher.

The pixels are cut into parts. What comes of each is kept in float32 and added up in a launch of its
own (``triton_sum``), in the order of the parts: results are the same bits every time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastinfogan.kernels.conv import library
from fastinfogan.kernels.conv.layout import TAPS, empty_bias, empty_weight
from fastinfogan.kernels.conv.tiles import (
    compiled,
    parts_of,
    pixels_of,
    sizes_of,
    tiles,
    weight_tile,
)
from fastinfogan.kernels.conv.triton_patches import patches, place
from fastinfogan.kernels.dispatch import multiplies
from fastinfogan.kernels.triton_math import multiply
from fastinfogan.kernels.triton_module import await_previous, jit, launch, tl
from fastinfogan.kernels.triton_sum import sum_parts


@jit
def _store_of_taps(
    biases_ptr,  # (STRIDE, STRIDE, CHANNELS)
    bias,  # (columns,): sums of the patches' columns n
    n,
    CHANNELS: tl.constexpr,
    STRIDE: tl.constexpr,
):
    """Store the sums of the taps that show each pixel once: the second of a row, and the third."""
    tap = n // CHANNELS
    ky, kx = tap // 4 - 1, tap % 4 - 1
    once = (ky >= 0) & (ky < STRIDE) & (kx >= 0) & (kx < STRIDE)
    at = (ky * STRIDE + kx) * CHANNELS + (n - tap * CHANNELS)
    tl.store(biases_ptr + at, bias, once)


@jit
def conv_weight_kernel(
    large_ptr,
    small_ptr,
    y_ptr,  # like small, the result of a slope whose derivative dy, small, lacks; or None
    weights_ptr,  # (parts, FEATURES, 16 CHANNELS): float32, or the result itself
    biases_ptr,  # (parts, dy's channels), likewise, or see BIAS_TAPS; None: nobody wants it
    pixels,  # of the small maps of all images
    per_part,
    slope,
    HEIGHT: tl.constexpr,  # of the large map
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,  # of the small map
    COLUMNS: tl.constexpr,
    FEATURES: tl.constexpr,
    STRIDE: tl.constexpr,
    BIAS_TAPS: tl.constexpr,  # 0: dy is small; else large: that many sums for each part
    BLOCK_FEATURES: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    EARLY: tl.constexpr,
):
    """The product of the small map, transposed, and the patches: a program has a tile and a part.

    A row of ones beside a factor, the one that is dy, gives its sums over the pixels: the bias's
    gradient. Of the patches' taps STRIDE x STRIDE together show every pixel of the large map once.
    """
    await_previous(EARLY)
    TILES_N: tl.constexpr = (16 * CHANNELS + BLOCK_N - 1) // BLOCK_N
    tile, part = tl.program_id(0), tl.program_id(1)
    begin = part * per_part
    end = tl.minimum(begin + per_part, pixels)
    m = tile // TILES_N * BLOCK_FEATURES + tl.arange(0, BLOCK_FEATURES)
    there = m < FEATURES
    first = tile % TILES_N * BLOCK_N
    first_image = begin // (ROWS * COLUMNS)
    large_ptr += first_image.to(tl.int64) * (HEIGHT * WIDTH * CHANNELS)
    small_ptr += begin.to(tl.int64) * FEATURES
    if y_ptr is not None:
        y_ptr += begin.to(tl.int64) * FEATURES
    total = tl.zeros((BLOCK_FEATURES, BLOCK_N), tl.float32)
    # A product's smallest side; all rows but the first are zeros.
    first_row = (tl.arange(0, 16) == 0)[:, None] & (tl.arange(0, BLOCK_PIXELS) >= 0)[None, :]
    ones = tl.where(first_row, 1.0, 0.0).to(small_ptr.dtype.element_ty)
    sums = tl.zeros((16, BLOCK_N if BIAS_TAPS > 0 else BLOCK_FEATURES), tl.float32)
    for start in range(0, per_part, BLOCK_PIXELS):
        here = start + tl.arange(0, BLOCK_PIXELS)
        image, row, column, inside = place(begin + here, end, ROWS, COLUMNS)
        b = patches(
            large_ptr, image - first_image, row, column, inside, first,
            HEIGHT, WIDTH, CHANNELS, STRIDE, BLOCK_N,
        )  # fmt: skip
        at = here[:, None] * FEATURES + m[None, :]
        mask = inside[:, None] & there[None, :]
        a = tl.load(small_ptr + at, mask, other=0.0)
        if y_ptr is not None:
            y = tl.load(y_ptr + at, mask, other=0.0)
            a = tl.where(y > 0.0, a, (a.to(tl.float32) * slope).to(a.dtype))
        total = multiply(tl.trans(a), b, total)
        if biases_ptr is not None:
            sums = multiply(ones, b if BIAS_TAPS > 0 else a, sums)
    n = first + tl.arange(0, BLOCK_N)
    out_ptr = weights_ptr + part.to(tl.int64) * (FEATURES * 16 * CHANNELS)
    at = m[:, None] * (16 * CHANNELS) + n[None, :]
    mask = there[:, None] & (n < 16 * CHANNELS)[None, :]
    tl.store(out_ptr + at, total.to(out_ptr.dtype.element_ty), mask)
    if biases_ptr is not None:
        bias = tl.sum(sums, 0).to(biases_ptr.dtype.element_ty)
        if BIAS_TAPS == 0:
            if first == 0:
                tl.store(biases_ptr + part * FEATURES + m, bias, there)
        elif tile < TILES_N:
            biases_ptr += part * (BIAS_TAPS * CHANNELS)
            _store_of_taps(biases_ptr, bias, n, CHANNELS, STRIDE)


def conv_weight(
    large: Tensor,
    small: Tensor,
    y: Tensor | None,
    slope: float,
    stride: int,
    dy_is_large: bool,
    with_bias: bool,
) -> tuple[Tensor, Tensor]:
    """The gradients of weight and bias; the latter is empty if it isn't wanted."""
    if not multiplies(large.device):
        return library.conv_weight(large, small, y, slope, stride, dy_is_large, with_bias)
    weight = empty_weight(large, small)
    bias = empty_bias(large if dy_is_large else small, with_bias)
    features, columns, pixels = weight.shape[0], TAPS**2 * large.shape[1], pixels_of(small)
    tile = weight_tile(features, columns, pixels)
    if y is not None:  # with three maps on their way registers would spill
        tile = tile._replace(stages=1)
    parts, per_part = parts_of(tile, features, columns, pixels)
    bias_taps = stride**2 if dy_is_large and with_bias else 0
    weights, biases = weight, bias
    bias_parts = parts * max(1, bias_taps)
    summed = max(parts, bias_parts) > 1
    if summed:
        weights = weight.new_empty((parts, weight.numel()), dtype=torch.float32)
        biases = bias.new_empty((bias_parts, bias.numel()), dtype=torch.float32)
    launch(
        conv_weight_kernel,
        (tiles(features, columns, tile.rows, tile.columns), parts),
        large,
        small,
        y,
        weights,
        biases if with_bias else None,
        pixels,
        per_part,
        slope,
        **sizes_of(large, small),
        STRIDE=stride,
        BIAS_TAPS=bias_taps,
        BLOCK_FEATURES=tile.rows,
        BLOCK_N=tile.columns,
        BLOCK_PIXELS=tile.k,
        **compiled(tile),
    )
    if summed:
        if with_bias:
            sum_parts(weights, weight, biases, bias)
        else:
            sum_parts(weights, weight)
    return weight, bias
