"""draw_maps and warp on a CPU: the launchers of ``native/warp.cpp``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastinfogan.kernels.dispatch import NATIVE, NATIVE_DTYPES, accumulator
from fastinfogan.kernels.warp.layout import empty_maps

_MARGIN = 2  # kMargin of the C++ file
_SMALL = 1 << 14  # numbers in a part; fewer aren't worth a thread


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
    rotation, scale, shear, move, brightness, contrast, exposure, flip = ranges
    NATIVE.draw_maps(
        seed.data_ptr(),
        offset.data_ptr(),
        shift,
        batch,
        stream,
        rotation,
        scale,
        shear,
        move,
        brightness,
        contrast,
        exposure,
        flip,
        half_range,
        maps.data_ptr(),
    )
    return maps


def _scratch(x: Tensor) -> tuple[int, Tensor]:
    """The parts that a batch is cut into, and a framed image's room for each."""
    batch, channels, height, width = x.shape
    parts = max(1, min(NATIVE.threads(), batch, x.numel() // _SMALL))
    frame = (parts, height + 2 * _MARGIN + 1, width + 2 * _MARGIN, channels)
    return parts, x.new_empty(frame, dtype=accumulator(x.dtype))


def warp_forward(x: Tensor, maps: Tensor, fill: Tensor, middle: float) -> Tensor:
    """The images as their maps show them."""
    batch, channels, height, width = x.shape
    parts, scratch = _scratch(x)
    y = torch.empty_like(x)
    NATIVE.warp(
        NATIVE_DTYPES[x.dtype],
        batch,
        height,
        width,
        channels,
        parts,
        x.data_ptr(),
        maps.data_ptr(),
        fill.data_ptr(),
        middle,
        scratch.data_ptr(),
        y.data_ptr(),
    )
    return y


def warp_backward(dy: Tensor, maps: Tensor) -> Tensor:
    """The gradient of the images."""
    batch, channels, height, width = dy.shape
    parts, scratch = _scratch(dy)
    dx = torch.empty_like(dy)
    NATIVE.warp_backward(
        NATIVE_DTYPES[dy.dtype],
        batch,
        height,
        width,
        channels,
        parts,
        dy.data_ptr(),
        maps.data_ptr(),
        scratch.data_ptr(),
        dx.data_ptr(),
    )
    return dx
