"""What conv's Triton kernels share: places in maps, patches of the large one, activations."""

from __future__ import annotations

from fastinfogan.kernels import activation
from fastinfogan.kernels.triton_module import constexpr, jit, tl

_SLOPE = constexpr(activation.SLOPE)
_SIGMOID = constexpr(activation.SIGMOID)
_TANH = constexpr(activation.TANH)


@jit
def activate(u, slope, ACTIVATION: tl.constexpr):
    """Of a float32 tile."""
    if ACTIVATION == _SLOPE:
        u = tl.where(u > 0.0, u, u * slope)
    elif ACTIVATION == _SIGMOID:
        u = 1.0 / (1.0 + tl.exp(-u))
    elif ACTIVATION == _TANH:
        e = tl.exp(-2.0 * tl.abs(u))
        magnitude = (1.0 - e) / (1.0 + e)
        u = tl.where(u < 0.0, -magnitude, magnitude)
    return u


@jit
def place(p, pixels, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Image, row and column of pixels of maps, and whether they are there."""
    line = p // COLUMNS
    image = line // ROWS
    return image, line - image * ROWS, p - line * COLUMNS, p < pixels


@jit
def patches(
    large_ptr,  # of the image that ``image`` counts from
    image,
    row,
    column,
    inside,
    first,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    STRIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """(pixels, BLOCK): columns from ``first`` on, a multiple of BLOCK, of the patches' matrix."""
    y, x = row * STRIDE - 1, column * STRIDE - 1
    corner = ((image * HEIGHT + y) * WIDTH + x) * CHANNELS
    if CHANNELS % BLOCK == 0:  # all of one tap
        block = first // BLOCK
        tap = block // (CHANNELS // BLOCK)
        channel = (block - tap * (CHANNELS // BLOCK)) * BLOCK + tl.arange(0, BLOCK)
        ky, kx = tap // 4, tap % 4
        y, x = y + ky, x + kx
        mask = inside & (y >= 0) & (y < HEIGHT) & (x >= 0) & (x < WIDTH)
        corner += (ky * WIDTH + kx) * CHANNELS
        return tl.load(large_ptr + (corner[:, None] + channel[None, :]), mask[:, None], other=0.0)
    k = first + tl.arange(0, BLOCK)
    tap = k // CHANNELS
    ky, kx = tap // 4, tap % 4
    y, x = y[:, None] + ky[None, :], x[:, None] + kx[None, :]
    mask = inside[:, None] & (k < 16 * CHANNELS)[None, :]
    mask &= (y >= 0) & (y < HEIGHT) & (x >= 0) & (x < WIDTH)
    at = (ky * WIDTH + kx) * CHANNELS + (k - tap * CHANNELS)
    return tl.load(large_ptr + (corner[:, None] + at[None, :]), mask, other=0.0)
