"""draw_maps and warp on a GPU: Triton kernels and their launchers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastinfogan.kernels.triton_math import philox
from fastinfogan.kernels.triton_module import await_previous, constexpr, jit, launch, tl
from fastinfogan.kernels.warp.layout import NUMBERS, empty_maps

_BLOCK = 256  # numbers of a program: 2 in each of 128 threads
_NUMBERS = constexpr(NUMBERS)


@jit
def _even(word):
    """(word + 0.5) / 2^32, correctly rounded, from -1 to 1 instead of 0 to 1."""
    high, low = (word >> 16).to(tl.float32), (word & 0xFFFF).to(tl.float32)
    return 2.0 * ((high * 65536.0 + (low + 0.5)) * (1.0 / 4294967296.0)) - 1.0


@jit
def _draw_maps_kernel(
    maps_ptr,  # (batch, 8) float32
    seed_ptr,  # (1,) int64
    offset_ptr,  # (1,) int64
    shift,
    batch,
    rotation,  # 0.8 at most: see the series
    scale,
    shear,
    move,
    brightness,
    contrast,
    exposure,
    flip,
    half_range,
    STREAM: tl.constexpr,
    BLOCK: tl.constexpr,
    EARLY: tl.constexpr,
):
    await_previous(EARLY)
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    seed, n = tl.load(seed_ptr), tl.load(offset_ptr) + shift + row
    w0, w1, w2, w3 = philox(seed, n, n >> 32, row * 0, STREAM)
    w4, w5, w6, w7 = philox(seed, n, n >> 32, row * 0 + 1, STREAM)
    w8, _, _, _ = philox(seed, n, n >> 32, row * 0 + 2, STREAM)
    angle = rotation * _even(w0)
    k = 1.0 + scale * _even(w1)
    s = shear * _even(w2)
    # Taylor's series, because tl.cos reduces large angles in local memory.
    z = angle * angle
    sin = ((z / 362880.0 - 1.0 / 5040.0) * z + 1.0 / 120.0) * z - 1.0 / 6.0
    sin = angle + angle * z * sin
    cos = ((z / 3628800.0 - 1.0 / 40320.0) * z + 1.0 / 720.0) * z - 1.0 / 24.0
    cos = 1.0 - z * (0.5 + z * cos)
    mirror = tl.where(flip * _even(w7) > 0.0, -1.0, 1.0)
    at = maps_ptr + row * _NUMBERS
    inside = row < batch
    tl.store(at, mirror * k * cos, mask=inside)
    tl.store(at + 1, mirror * k * (s * cos - sin), mask=inside)
    tl.store(at + 2, mirror * move * _even(w3), mask=inside)
    tl.store(at + 3, k * sin, mask=inside)
    tl.store(at + 4, k * (s * sin + cos), mask=inside)
    tl.store(at + 5, move * _even(w4), mask=inside)
    gain, lighter = 1.0 + contrast * _even(w5), exposure * _even(w8)
    tl.store(at + 6, gain * (1.0 + lighter), mask=inside)
    tl.store(at + 7, (gain * lighter + brightness * _even(w6)) * half_range, mask=inside)


@jit
def _load_map(
    map_ptr,  # (8,) float32
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """The map between pixels, counted from the middle of the result: xx, xy, x, yx, yy, y; gain."""
    a, b, tx = tl.load(map_ptr), tl.load(map_ptr + 1), tl.load(map_ptr + 2)
    c, d, ty = tl.load(map_ptr + 3), tl.load(map_ptr + 4), tl.load(map_ptr + 5)
    # A map that isn't finite makes all that it shows NaN.
    gain = tl.load(map_ptr + 6) + 0.0 * (a + b + tx + c + d + ty)
    x = tx * (0.5 * WIDTH) + 0.5 * (WIDTH - 1)
    y = ty * (0.5 * HEIGHT) + 0.5 * (HEIGHT - 1)
    return a, b * (WIDTH / HEIGHT), x, c * (HEIGHT / WIDTH), d, y, gain


@jit
def _pixels(HEIGHT: tl.constexpr, WIDTH: tl.constexpr, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """Number, row, column and channel of a program's part of an image; which there are."""
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    pixel = at // CHANNELS
    return at, pixel // WIDTH, pixel % WIDTH, at % CHANNELS, at < HEIGHT * WIDTH * CHANNELS


@jit
def _pixel(
    image_ptr,  # (height, width, channels), any float; by channel
    fill,
    row,
    column,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """A pixel as float32; ``fill`` where the image has none."""
    there = (row >= 0) & (row < HEIGHT) & (column >= 0) & (column < WIDTH)
    value = tl.load(image_ptr + (row * WIDTH + column) * CHANNELS, mask=there, other=0.0)
    return tl.where(there, value.to(tl.float32), fill)


@jit
def _clamp(value, low, high):
    """NaN counts as low."""
    raised = tl.where(value > low, value, low)
    return tl.where(raised < high, raised, high)


@jit
def _warp_forward_kernel(
    x_ptr,  # (batch, height, width, channels), any float
    y_ptr,  # like x
    maps_ptr,  # (batch, 8) float32
    fill_ptr,  # (channels,) float32
    middle,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
    EARLY: tl.constexpr,
):
    await_previous(EARLY)
    image = tl.program_id(0).to(tl.int64)
    at, row, column, channel, inside = _pixels(HEIGHT, WIDTH, CHANNELS, BLOCK)
    map_ptr = maps_ptr + image * _NUMBERS
    xx, xy, x, yx, yy, y, gain = _load_map(map_ptr, HEIGHT, WIDTH)
    along, down = column - 0.5 * (WIDTH - 1), row - 0.5 * (HEIGHT - 1)
    # Beyond -2 or the size there is nothing but fill, however far.
    x = _clamp(xx * along + xy * down + x, -2.0, WIDTH * 1.0)
    y = _clamp(yx * along + yy * down + y, -2.0, HEIGHT * 1.0)
    x0, y0 = tl.floor(x), tl.floor(y)
    fx, fy, j, i = x - x0, y - y0, x0.to(tl.int32), y0.to(tl.int32)
    fill = tl.load(fill_ptr + channel)
    size = HEIGHT * WIDTH * CHANNELS
    image_ptr = x_ptr + image * size + channel
    v00 = _pixel(image_ptr, fill, i, j, HEIGHT, WIDTH, CHANNELS)
    v01 = _pixel(image_ptr, fill, i, j + 1, HEIGHT, WIDTH, CHANNELS)
    v10 = _pixel(image_ptr, fill, i + 1, j, HEIGHT, WIDTH, CHANNELS)
    v11 = _pixel(image_ptr, fill, i + 1, j + 1, HEIGHT, WIDTH, CHANNELS)
    top, bottom = v00 + fx * (v01 - v00), v10 + fx * (v11 - v10)
    shift = middle - gain * middle + tl.load(map_ptr + 7)
    shown = gain * (top + fy * (bottom - top)) + shift
    tl.store(y_ptr + image * size + at, shown.to(y_ptr.dtype.element_ty), mask=inside)


@jit
def _box(reach, SIZE: tl.constexpr):
    """How many whole numbers may lie within ``reach`` of any place: SIZE at most."""
    return tl.where(2.0 * reach < SIZE - 2, 2.0 * reach + 2.0, SIZE * 1.0).to(tl.int32)


@jit
def _warp_backward_kernel(
    dy_ptr,  # (batch, height, width, channels), any float
    dx_ptr,  # like dy
    maps_ptr,  # (batch, 8) float32
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
    EARLY: tl.constexpr,
):
    """A pixel looks through all those of the result that may show it.

    Theirs are the places within 1 of it along either axis: the inverse map makes of that square a
    parallelogram, whose box is looked through; a map without an inverse has the whole image.
    """
    await_previous(EARLY)
    image = tl.program_id(0).to(tl.int64)
    at, row, column, channel, inside = _pixels(HEIGHT, WIDTH, CHANNELS, BLOCK)
    xx, xy, x, yx, yy, y, gain = _load_map(maps_ptr + image * _NUMBERS, HEIGHT, WIDTH)
    scale = 1.0 / (xx * yy - xy * yx)
    reach_x = (tl.abs(yy) + tl.abs(xy)) * tl.abs(scale)
    reach_y = (tl.abs(yx) + tl.abs(xx)) * tl.abs(scale)
    columns, rows = _box(reach_x, WIDTH), _box(reach_y, HEIGHT)
    centre_x = (yy * (column - x) - xy * (row - y)) * scale + 0.5 * (WIDTH - 1)
    centre_y = (xx * (row - y) - yx * (column - x)) * scale + 0.5 * (HEIGHT - 1)
    first_j = _clamp(tl.floor(centre_x - reach_x), 0.0, (WIDTH - columns) * 1.0).to(tl.int32)
    first_i = _clamp(tl.floor(centre_y - reach_y), 0.0, (HEIGHT - rows) * 1.0).to(tl.int32)
    size = HEIGHT * WIDTH * CHANNELS
    image_ptr = dy_ptr + image * size + channel
    total = tl.zeros((BLOCK,), tl.float32)
    for k in range(rows):
        i = first_i + k
        down = i - 0.5 * (HEIGHT - 1)
        for m in range(columns):
            j = first_j + m
            along = j - 0.5 * (WIDTH - 1)
            near_x = 1.0 - tl.abs(xx * along + xy * down + x - column)
            near_y = 1.0 - tl.abs(yx * along + yy * down + y - row)
            # (Not of all: a NaN times 0 would be one.)
            shows = inside & (near_x > 0.0) & (near_y > 0.0)
            dy = tl.load(image_ptr + (i * WIDTH + j) * CHANNELS, mask=shows, other=0.0)
            total += tl.where(shows, near_x * near_y * dy.to(tl.float32), 0.0)
    tl.store(dx_ptr + image * size + at, (gain * total).to(dx_ptr.dtype.element_ty), mask=inside)


def draw_maps(
    seed: Tensor,
    offset: Tensor,
    shift: int,
    batch: int,
    stream: int,
    ranges: Sequence[float],
    half_range: float,
) -> Tensor:
    """``draw_maps`` as the registered op; the ranges by the order of ``Jitter``'s fields."""
    maps = empty_maps(seed, batch)
    rotation, scale, shear, move, brightness, contrast, exposure, flip = map(float, ranges)
    launch(
        _draw_maps_kernel,
        (-(-batch // _BLOCK),),
        maps,
        seed,
        offset,
        shift,
        batch,
        rotation,
        scale,
        shear,
        move,
        brightness,
        contrast,
        exposure,
        flip,
        float(half_range),
        STREAM=stream,
        BLOCK=_BLOCK,
        num_warps=4,
    )
    return maps


def _programs(x: Tensor) -> tuple[int, int]:
    return len(x), -(-x[0].numel() // _BLOCK)


def warp_forward(x: Tensor, maps: Tensor, fill: Tensor, middle: float) -> Tensor:
    """The images as their maps show them."""
    _, channels, height, width = x.shape
    y = torch.empty_like(x)
    launch(
        _warp_forward_kernel,
        _programs(x),
        x,
        y,
        maps,
        fill,
        middle,
        HEIGHT=height,
        WIDTH=width,
        CHANNELS=channels,
        BLOCK=_BLOCK,
        num_warps=4,
    )
    return y


def warp_backward(dy: Tensor, maps: Tensor) -> Tensor:
    """The gradient of the images."""
    _, channels, height, width = dy.shape
    dx = torch.empty_like(dy)
    launch(
        _warp_backward_kernel,
        _programs(dy),
        dy,
        dx,
        maps,
        HEIGHT=height,
        WIDTH=width,
        CHANNELS=channels,
        BLOCK=_BLOCK,
        num_warps=4,
    )
    return dx
