"""The gradient of what a batchnorm made of maps, and the sums that go back: kernel, launcher."""

from __future__ import annotations

import torch
from torch import Tensor

from fastinfogan.kernels.bn_act.layout import empty_partials
from fastinfogan.kernels.bn_act.triton_tiles import backward_sums, start_of, tile_of, write_three
from fastinfogan.kernels.channels_last import pixel_matrix
from fastinfogan.kernels.linear_bn_act.layout import STRIP
from fastinfogan.kernels.triton_math import multiply
from fastinfogan.kernels.triton_module import await_previous, jit, launch, tl
from fastinfogan.kernels.triton_needs import power_of_two

_WIDE = 128  # inputs of a program, where there are programs enough
_ENOUGH = 132  # programs: one for each SM of an H100


@jit
def linear_bn_act_back_kernel(
    dx_ptr,  # (groups, rows, inputs), any float
    dz_ptr,  # (groups, rows, outputs), like dx
    weight_ptr,  # (outputs, inputs), like dx
    x_ptr,  # like dx: what went into the batchnorm; inputs are pixels of CHANNELS each
    scale_ptr,  # (CHANNELS,) float32
    shift_ptr,  # (CHANNELS,) float32
    stats_ptr,  # (2, groups, CHANNELS) float32: mean, 1 / sigma
    partials_ptr,  # (pixels, 3, groups, CHANNELS) float32: count, sum of g, sum of g x_hat
    rows,
    inputs,
    outputs,
    groups,
    slope,
    CHANNELS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_INPUTS: tl.constexpr,
    BLOCK_OUTPUTS: tl.constexpr,
    EARLY: tl.constexpr,
):
    """Programs (i, j): strip i of the inputs, which lies in one pixel, and group j."""
    await_previous(EARLY)
    begin, group = tl.program_id(0) * BLOCK_INPUTS, tl.program_id(1)
    row = tl.arange(0, BLOCK_ROWS)
    column = begin + tl.arange(0, BLOCK_INPUTS)
    here = (row < rows)[:, None]
    dz_ptr += start_of(group, 0, rows, outputs)
    total = tl.zeros((BLOCK_ROWS, BLOCK_INPUTS), tl.float32)
    for start in range(0, outputs, BLOCK_OUTPUTS):
        k = start + tl.arange(0, BLOCK_OUTPUTS)
        there = k < outputs
        dz = tl.load(
            dz_ptr + row[:, None] * outputs + k[None, :], mask=here & there[None, :], other=0.0
        )
        at = k[:, None].to(tl.int64) * inputs + column[None, :]
        total = multiply(dz, tl.load(weight_ptr + at, mask=there[:, None], other=0.0), total)
    inside = column < inputs
    at, mask = tile_of(inputs, column, inside, rows, BLOCK_ROWS)
    at += start_of(group, 0, rows, inputs)
    dx = total.to(dx_ptr.dtype.element_ty)
    tl.store(dx_ptr + at, dx, mask=mask)
    x = tl.load(x_ptr + at, mask=mask, other=0.0)
    pixel = begin // CHANNELS
    channel = column - pixel * CHANNELS
    first, second = backward_sums(
        dx, x, scale_ptr, shift_ptr, stats_ptr, group, groups, channel, inside, CHANNELS, slope
    )
    write_three(partials_ptr, pixel, group, groups, channel, inside, CHANNELS, rows, first, second)


def input_gradient(
    dz: Tensor,
    weight: Tensor,
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    stats: Tensor,
    slope: float,
    groups: int,
) -> tuple[Tensor, Tensor]:
    """The gradient of what a batchnorm made of the maps x, like them; and sums for its own.

    Args:
        dz: (B, O), the gradient of the product.
        weight: (O, C H W), columns in the order of memory.
        x: (B, C, H, W), channels-last.
        scale, shift, stats, slope: the batchnorm's, and (2, groups, C).
        groups: parts of the batch that are normalised apart.
    """
    dx = torch.empty_like(x)
    channels, rows, (outputs, inputs) = x.shape[1], x.shape[0] // groups, weight.shape
    partials = empty_partials(x, groups, inputs // channels)
    many = groups * inputs > _ENOUGH * STRIP and channels % _WIDE == 0
    wide = _WIDE if many else STRIP
    launch(
        linear_bn_act_back_kernel,
        (inputs // wide, groups),
        pixel_matrix(dx),
        dz,
        weight,
        pixel_matrix(x),
        scale,
        shift,
        stats,
        partials,
        rows,
        inputs,
        outputs,
        groups,
        slope,
        CHANNELS=channels,
        BLOCK_ROWS=max(16, power_of_two(rows)),
        BLOCK_INPUTS=wide,
        BLOCK_OUTPUTS=64,
        num_warps=8,
        num_stages=3,
    )
    return dx, partials
