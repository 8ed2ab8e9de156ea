"""The gradients of conv's weight and bias in Triton: kernels, and their launcher.

The pixels are cut into parts. What comes of each is kept in float32 and added up in a launch of its
own, in the order of the parts: results are the same bits every time.
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
    sum_blocks,
    weight_tile,
    whole_loads,
)
from fastinfogan.kernels.conv.triton_patches import patches, place
from fastinfogan.kernels.dispatch import multiplies
from fastinfogan.kernels.triton_math import multiply
from fastinfogan.kernels.triton_module import jit, launch, tl
from fastinfogan.kernels.triton_needs import power_of_two


@jit
def _derived(dy, y_ptr, at, mask, slope):
    """The gradient before a slope, from that behind it; the same where none is given."""
    if y_ptr is not None:
        y = tl.load(y_ptr + at, mask, other=0.0)
        dy = tl.where(y > 0.0, dy, (dy.to(tl.float32) * slope).to(dy.dtype))
    return dy


@jit
def _weight_tile(
    large_ptr,
    small_ptr,
    y_ptr,
    out_ptr,
    tile,
    begin,
    end,
    per_part,
    slope,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    FEATURES: tl.constexpr,
    STRIDE: tl.constexpr,
    BLOCK_FEATURES: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
):
    """A tile of the product of the small map, transposed, and the patches, over a part's pixels."""
    TILES_N: tl.constexpr = (16 * CHANNELS + BLOCK_N - 1) // BLOCK_N
    m = tile // TILES_N * BLOCK_FEATURES + tl.arange(0, BLOCK_FEATURES)
    there = m < FEATURES
    first = tile % TILES_N * BLOCK_N
    first_image = begin // (ROWS * COLUMNS)
    large_ptr += first_image.to(tl.int64) * (HEIGHT * WIDTH * CHANNELS)
    small_ptr += begin.to(tl.int64) * FEATURES
    if y_ptr is not None:
        y_ptr += begin.to(tl.int64) * FEATURES
    total = tl.zeros((BLOCK_FEATURES, BLOCK_N), tl.float32)
    for start in range(0, per_part, BLOCK_PIXELS):
        here = start + tl.arange(0, BLOCK_PIXELS)
        image, row, column, inside = place(begin + here, end, ROWS, COLUMNS)
        b = patches(
            large_ptr, image - first_image, row, column, inside, first,
            HEIGHT, WIDTH, CHANNELS, STRIDE, BLOCK_N,
        )  # fmt: skip
        at = here[:, None] * FEATURES + m[None, :]
        mask = inside[:, None] & there[None, :]
        a = _derived(tl.load(small_ptr + at, mask, other=0.0), y_ptr, at, mask, slope)
        total = multiply(tl.trans(a), b, total)
    n = first + tl.arange(0, BLOCK_N)
    at = m[:, None] * (16 * CHANNELS) + n[None, :]
    mask = there[:, None] & (n < 16 * CHANNELS)[None, :]
    tl.store(out_ptr + at, total.to(out_ptr.dtype.element_ty), mask)


@jit
def _bias_strip(
    dy_ptr,
    y_ptr,
    out_ptr,
    strip,
    begin,
    end,
    slope,
    OUTPUTS: tl.constexpr,
    BLOCK_OUTPUTS: tl.constexpr,
):
    """Sums over a part's pixels of a strip of channels."""
    BLOCK_PIXELS: tl.constexpr = 4096 // BLOCK_OUTPUTS  # 32 numbers in each of 128 threads
    n = strip * BLOCK_OUTPUTS + tl.arange(0, BLOCK_OUTPUTS)
    there = n < OUTPUTS
    dy_ptr += begin.to(tl.int64) * OUTPUTS
    if y_ptr is not None:
        y_ptr += begin.to(tl.int64) * OUTPUTS
    sums = tl.zeros((BLOCK_PIXELS, BLOCK_OUTPUTS), tl.float32)
    for start in range(0, end - begin, BLOCK_PIXELS):
        here = start + tl.arange(0, BLOCK_PIXELS)
        mask = (here < end - begin)[:, None] & there[None, :]
        at = here[:, None] * OUTPUTS + n[None, :]
        dy = _derived(tl.load(dy_ptr + at, mask, other=0.0), y_ptr, at, mask, slope)
        sums += dy.to(tl.float32)
    tl.store(out_ptr + n, tl.sum(sums, 0).to(out_ptr.dtype.element_ty), there)


@jit
def conv_weight_kernel(
    large_ptr,
    small_ptr,
    y_ptr,  # like small, the result of a slope whose derivative dy, small, lacks; or None
    weights_ptr,  # (parts, FEATURES, 16 CHANNELS): float32, or the result itself
    dy_ptr,  # the map, small or large, whose pixels the bias's gradient adds up; or None
    biases_ptr,  # (parts, OUTPUTS), likewise
    pixels,  # of the small maps of all images
    per_part,
    dy_pixels,
    dy_per_part,
    slope,
    HEIGHT: tl.constexpr,  # of the large map
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,  # of the small map
    COLUMNS: tl.constexpr,
    FEATURES: tl.constexpr,
    STRIDE: tl.constexpr,
    OUTPUTS: tl.constexpr,  # channels of dy
    BLOCK_FEATURES: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_OUTPUTS: tl.constexpr,
):
    """A program has a part and a tile of the weight's gradient, or a strip of the bias's."""
    TILES_N: tl.constexpr = (16 * CHANNELS + BLOCK_N - 1) // BLOCK_N
    TILES: tl.constexpr = (FEATURES + BLOCK_FEATURES - 1) // BLOCK_FEATURES * TILES_N
    tile, part = tl.program_id(0), tl.program_id(1)
    if tile < TILES:
        begin = part * per_part
        end = tl.minimum(begin + per_part, pixels)
        out_ptr = weights_ptr + part.to(tl.int64) * (FEATURES * 16 * CHANNELS)
        _weight_tile(
            large_ptr, small_ptr, y_ptr, out_ptr, tile, begin, end, per_part, slope,
            HEIGHT, WIDTH, CHANNELS, ROWS, COLUMNS, FEATURES, STRIDE,
            BLOCK_FEATURES, BLOCK_N, BLOCK_PIXELS,
        )  # fmt: skip
    elif dy_ptr is not None:
        begin = part * dy_per_part
        end = tl.minimum(begin + dy_per_part, dy_pixels)
        out_ptr = biases_ptr + part * OUTPUTS
        strip = tile - TILES
        _bias_strip(dy_ptr, y_ptr, out_ptr, strip, begin, end, slope, OUTPUTS, BLOCK_OUTPUTS)


@jit
def conv_sum_kernel(
    weights_ptr,  # (parts, size) float32
    biases_ptr,  # (parts, outputs) float32; or None
    weight_ptr,  # (size,)
    bias_ptr,  # (outputs,)
    parts,
    size,
    outputs,
    BLOCK_PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Adds up the parts; the programs after those of the weight are the bias's."""
    block = tl.program_id(0)
    blocks = tl.cdiv(size, BLOCK)
    if biases_ptr is not None:
        if block >= blocks:
            block -= blocks
            size = outputs
            weights_ptr = biases_ptr
            weight_ptr = bias_ptr
    n = block * BLOCK + tl.arange(0, BLOCK)
    sums = tl.zeros((BLOCK_PARTS, BLOCK), tl.float32)
    for start in range(0, parts, BLOCK_PARTS):
        part = start + tl.arange(0, BLOCK_PARTS)
        mask = (part < parts)[:, None] & (n < size)[None, :]
        at = part.to(tl.int64)[:, None] * size + n[None, :]
        sums += tl.load(weights_ptr + at, mask, other=0.0)
    total = tl.sum(sums, 0).to(weight_ptr.dtype.element_ty)
    tl.store(weight_ptr + n, total, n < size)


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
    dy = large if dy_is_large else small
    weight, bias = empty_weight(large, small), empty_bias(dy, with_bias)
    features, columns, pixels = weight.shape[0], TAPS**2 * large.shape[1], pixels_of(small)
    tile = weight_tile(features, columns, pixels)
    parts, per_part = parts_of(tile, features, columns, pixels)
    weights, biases = weight, bias
    if parts > 1:
        weights, biases = (
            result.new_empty((parts, result.numel()), dtype=torch.float32)
            for result in (weight, bias)
        )
    strip = min(64, max(16, power_of_two(dy.shape[1])))
    strips = -(-bias.numel() // strip)
    launch(
        conv_weight_kernel,
        (-(-features // tile.rows) * -(-columns // tile.columns) + strips, parts),
        large,
        small,
        y,
        weights,
        dy if with_bias else None,
        biases if with_bias else None,
        pixels,
        per_part,
        pixels_of(dy),
        whole_loads(pixels_of(dy), parts, tile.k),
        slope,
        **sizes_of(large, small),
        STRIDE=stride,
        OUTPUTS=dy.shape[1],
        BLOCK_FEATURES=tile.rows,
        BLOCK_N=tile.columns,
        BLOCK_PIXELS=tile.k,
        BLOCK_OUTPUTS=strip,
        **compiled(tile),
    )
    if parts > 1:
        blocks = sum_blocks(parts)
        launch(
            conv_sum_kernel,
            (-(-weight.numel() // blocks["BLOCK"]) + -(-bias.numel() // blocks["BLOCK"]),),
            weights,
            biases if with_bias else None,
            weight,
            bias,
            parts,
            weight.numel(),
            bias.numel(),
            **blocks,
        )
    return weight, bias
