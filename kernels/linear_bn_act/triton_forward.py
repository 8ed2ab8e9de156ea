"""linear_bn_act's Triton kernels of the forward pass: a program normalises all rows of a strip."""

from __future__ import annotations

from fastinfogan.kernels.bn_act.triton_tiles import (
    columns_of,
    one_over_sigma,
    output,
    start_of,
    tile_of,
    write_stats,
)
from fastinfogan.kernels.triton_math import multiply
from fastinfogan.kernels.triton_module import await_previous, jit, tl


@jit
def linear_bn_act_forward_kernel(
    x_ptr,  # (groups, rows, inputs), any float
    weight_ptr,  # (outputs, inputs), like x
    scale_ptr,  # (outputs,) float32
    shift_ptr,  # (outputs,) float32
    running_mean_ptr,  # (outputs,) float32; not looked at if momentum is 0
    running_var_ptr,  # (outputs,) float32; the same
    y_ptr,  # (groups, rows, outputs), like x
    z_ptr,  # (groups, rows, outputs), like x: before batchnorm; empty if kept is 0
    stats_ptr,  # (2, groups, outputs) float32: mean, 1 / sigma
    rows,
    kept,  # rows of z to write: all, or none
    inputs,
    outputs,
    slope,
    momentum,
    eps,
    GROUPS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_OUTPUTS: tl.constexpr,
    BLOCK_INPUTS: tl.constexpr,
    EARLY: tl.constexpr,
):
    """A program has a strip of the outputs."""
    await_previous(EARLY)
    columns, inside = columns_of(tl.program_id(0), outputs, BLOCK_OUTPUTS)
    row = tl.arange(0, BLOCK_ROWS)
    here = (row < rows)[:, None]
    x_ptrs = x_ptr + row[:, None] * inputs
    weight_ptrs = weight_ptr + columns[None, :].to(tl.int64) * inputs
    first = tl.zeros((BLOCK_ROWS, BLOCK_OUTPUTS), tl.float32)
    second = first
    for start in range(0, inputs, BLOCK_INPUTS):
        k = start + tl.arange(0, BLOCK_INPUTS)
        there = k < inputs
        mask = here & there[None, :]
        w = tl.load(weight_ptrs + k[:, None], mask=there[:, None] & inside[None, :], other=0.0)
        first = multiply(tl.load(x_ptrs + k[None, :], mask=mask, other=0.0), w, first)
        if GROUPS == 2:
            x_ptrs_2 = x_ptrs + rows * inputs
            second = multiply(tl.load(x_ptrs_2 + k[None, :], mask=mask, other=0.0), w, second)
    learns = inside & (momentum > 0.0)
    r_mean = tl.load(running_mean_ptr + columns, mask=learns, other=0.0)
    r_var = tl.load(running_var_ptr + columns, mask=learns, other=0.0)
    for group in tl.static_range(GROUPS):
        z = first if group == 0 else second
        r_mean, r_var = _normalise(
            z, scale_ptr, shift_ptr, y_ptr, z_ptr, stats_ptr, group, GROUPS, rows, kept, outputs,
            columns, inside, slope, momentum, eps, r_mean, r_var, BLOCK_ROWS,
        )  # fmt: skip
    tl.store(running_mean_ptr + columns, r_mean, mask=learns)
    tl.store(running_var_ptr + columns, r_var, mask=learns)


@jit
def linear_bn_act_parts_kernel(
    x_ptr,  # (rows, inputs), any float
    weight_ptr,  # (outputs, inputs), like x; BACK: (inputs, outputs)
    parts_ptr,  # (parts, rows, outputs) float32
    rows,
    inputs,
    outputs,
    inputs_per_part,
    BACK: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_OUTPUTS: tl.constexpr,
    BLOCK_INPUTS: tl.constexpr,
    EARLY: tl.constexpr,
):
    """Programs (i, j, k): block i of the rows and strip j of the outputs, for part k of the inputs.

    What has a strip of the weight in common runs side by side. Going back, inputs and outputs are
    those of this product: the layer's outputs and inputs.
    """
    await_previous(EARLY)
    columns, inside = columns_of(tl.program_id(1), outputs, BLOCK_OUTPUTS)
    part = tl.program_id(2)
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    here = (row < rows)[:, None]
    x_ptrs = x_ptr + row[:, None] * inputs
    if BACK:
        weight_ptrs = weight_ptr + columns[None, :]
    else:
        weight_ptrs = weight_ptr + columns[None, :].to(tl.int64) * inputs
    z = tl.zeros((BLOCK_ROWS, BLOCK_OUTPUTS), tl.float32)
    first = part * inputs_per_part
    for start in range(first, tl.minimum(first + inputs_per_part, inputs), BLOCK_INPUTS):
        k = start + tl.arange(0, BLOCK_INPUTS)
        there = k < inputs
        at = k[:, None].to(tl.int64) * outputs if BACK else k[:, None]
        w = tl.load(weight_ptrs + at, mask=there[:, None] & inside[None, :], other=0.0)
        x = tl.load(x_ptrs + k[None, :], mask=here & there[None, :], other=0.0)
        z = multiply(x, w, z)
    parts_ptr += tl.cast(part, tl.int64) * rows * outputs
    out = row[:, None] * outputs + columns[None, :]
    tl.store(parts_ptr + out, z, mask=here & inside[None, :])


@jit
def linear_bn_act_sum_kernel(
    parts_ptr,  # (PARTS, groups, rows, outputs) float32
    scale_ptr,  # (outputs,) float32
    shift_ptr,  # (outputs,) float32
    running_mean_ptr,  # (outputs,) float32; not looked at if momentum is 0
    running_var_ptr,  # (outputs,) float32; the same
    y_ptr,  # (groups, rows, outputs), any float
    z_ptr,  # like y: the sum of the parts; empty if kept is 0
    stats_ptr,  # (2, groups, outputs) float32: mean, 1 / sigma
    rows,
    kept,  # rows of z to write: all, or none
    outputs,
    slope,
    momentum,
    eps,
    PARTS: tl.constexpr,
    GROUPS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_OUTPUTS: tl.constexpr,
    EARLY: tl.constexpr,
):
    """A program adds up a strip of the outputs, in the order of the parts, and normalises it."""
    await_previous(EARLY)
    columns, inside = columns_of(tl.program_id(0), outputs, BLOCK_OUTPUTS)
    at, mask = tile_of(outputs, columns, inside, rows, BLOCK_ROWS)
    learns = inside & (momentum > 0.0)
    r_mean = tl.load(running_mean_ptr + columns, mask=learns, other=0.0)
    r_var = tl.load(running_var_ptr + columns, mask=learns, other=0.0)
    for group in tl.static_range(GROUPS):
        z = tl.zeros((BLOCK_ROWS, BLOCK_OUTPUTS), tl.float32)
        for part in tl.static_range(PARTS):
            start = start_of(part * GROUPS + group, 0, rows, outputs)
            z += tl.load(parts_ptr + start + at, mask=mask, other=0.0)
        r_mean, r_var = _normalise(
            z, scale_ptr, shift_ptr, y_ptr, z_ptr, stats_ptr, group, GROUPS, rows, kept, outputs,
            columns, inside, slope, momentum, eps, r_mean, r_var, BLOCK_ROWS,
        )  # fmt: skip
    tl.store(running_mean_ptr + columns, r_mean, mask=learns)
    tl.store(running_var_ptr + columns, r_var, mask=learns)


@jit
def _normalise(
    z,  # (BLOCK_ROWS, columns) float32: a strip of a group, 0 where there is no row
    scale_ptr,
    shift_ptr,
    y_ptr,
    z_ptr,
    stats_ptr,
    group,
    groups,
    rows,
    kept,
    outputs,
    columns,
    inside,
    slope,
    momentum,
    eps,
    r_mean,  # the running statistics up to here
    r_var,
    BLOCK_ROWS: tl.constexpr,
):
    """Store y, z and the statistics; returns the running ones from here on."""
    at, mask = tile_of(outputs, columns, inside, rows, BLOCK_ROWS)
    at += start_of(group, 0, rows, outputs)
    row = tl.arange(0, BLOCK_ROWS)[:, None]
    half = z.to(y_ptr.dtype.element_ty)  # as batchnorm by itself would see it
    tl.store(z_ptr + at, half, mask=mask & (row < kept))
    z = half.to(tl.float32)
    mean = tl.sum(z, 0) * (1.0 / rows)
    d = tl.where(row < rows, z - mean[None, :], 0.0)
    m2 = tl.sum(d * d, 0)
    rstd = one_over_sigma(m2, rows, eps)
    write_stats(stats_ptr, group, groups, columns, inside, outputs, mean, rstd)
    scale = tl.load(scale_ptr + columns, mask=inside, other=0.0)
    shift = tl.load(shift_ptr + columns, mask=inside, other=0.0)
    y = output(z, mean, rstd * scale, shift, slope)
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=mask)
    r_mean += momentum * (mean - r_mean)
    r_var += momentum * (m2 * (1.0 / (rows - 1.0)) - r_var)
    return r_mean, r_var
