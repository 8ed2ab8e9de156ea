"""conv on the CPU: matrix products of patches, which ``native/patches.cpp`` makes and adds up.

Patches take 16 / stride^2 times the memory of the map, so they are made for a few images at a
time. Not for bfloat16: ``up`` would add up products that were rounded to 8 bits before, and
``weight`` would round its sum once a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fastinfogan.kernels.channels_last import pixel_matrix
from fastinfogan.kernels.conv.activation import SLOPE, activate_, derived
from fastinfogan.kernels.conv.layout import (
    TAPS,
    bias_gradient,
    empty_large,
    empty_small,
    empty_weight,
)
from fastinfogan.kernels.dispatch import NATIVE, NATIVE_DTYPES, address

DTYPES = (torch.float32, torch.float64)  # half precision is the library's

# Patches made at a time: in the last-level cache of most CPUs, and large enough that the matrix
# product doesn't spend its time on packing the weight.
_CHUNK_BYTES = 4 << 20


def conv_down(
    large: Tensor, weight: Tensor, bias: Tensor | None, stride: int, activation: int, slope: float
) -> Tensor:
    """The small map of a large one."""
    small = empty_small(large, weight, stride)
    _, _, rows, columns = small.shape
    matrix = _weight_matrix(weight).t()
    for images, patches in _chunks(large, rows, columns):
        _fill_patches(large[images], patches, rows, columns, stride)
        y = pixel_matrix(small[images])
        if bias is None:
            torch.mm(patches, matrix, out=y)
        else:
            torch.addmm(bias, patches, matrix, out=y)
    return activate_(small, activation, slope)


def conv_up(
    small: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    height: int,
    width: int,
    activation: int,
    slope: float,
) -> Tensor:
    """The large map, of this height and width, of a small one."""
    _, _, rows, columns = small.shape
    large = empty_large(small, weight, height, width)
    channels = large.shape[1]
    matrix = _weight_matrix(weight)
    bias = None if bias is None else bias.repeat(stride)  # as long as a run of pixels
    for images, patches in _chunks(large, rows, columns):
        torch.mm(pixel_matrix(small[images]), matrix, out=patches)
        y = large[images]
        NATIVE.conv_fold(
            NATIVE_DTYPES[y.dtype],
            len(y),
            height,
            width,
            channels,
            rows,
            columns,
            stride,
            patches.data_ptr(),
            address(bias),
            y.data_ptr(),
        )
    return activate_(large, activation, slope)


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
    if y is not None:
        small = derived(small, y, SLOPE, slope)
    _, _, rows, columns = small.shape
    weight = empty_weight(large, small)
    matrix = _weight_matrix(weight)
    for images, patches in _chunks(large, rows, columns):
        _fill_patches(large[images], patches, rows, columns, stride)
        torch.addmm(
            matrix,
            pixel_matrix(small[images]).t(),
            patches,
            beta=float(images.start > 0),  # with 0 what was in memory is not even read
            out=matrix,
        )
    return weight, bias_gradient(large if dy_is_large else small, with_bias)


def _chunks(large: Tensor, rows: int, columns: int) -> Iterator[tuple[slice, Tensor]]:
    """The batch in parts, with memory for the patches of each; by the shape alone."""
    width = TAPS * TAPS * large.shape[1]
    image = rows * columns * width * large.element_size()
    count = min(max(1, _CHUNK_BYTES // image), large.shape[0])
    patches = large.new_empty((count * rows * columns, width))
    for first in range(0, large.shape[0], count):
        last = min(first + count, large.shape[0])
        yield slice(first, last), patches[: (last - first) * rows * columns]


def _fill_patches(large: Tensor, patches: Tensor, rows: int, columns: int, stride: int) -> None:
    batch, channels, height, width = large.shape
    NATIVE.conv_patches(
        NATIVE_DTYPES[large.dtype],
        batch,
        height,
        width,
        channels,
        rows,
        columns,
        stride,
        large.data_ptr(),
        patches.data_ptr(),
    )


def _weight_matrix(weight: Tensor) -> Tensor:
    """(M, C, 4, 4), channels-last, as (M, 16 C)."""
    return weight.permute(0, 2, 3, 1).view(weight.shape[0], -1)
