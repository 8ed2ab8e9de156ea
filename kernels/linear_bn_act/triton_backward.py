"""linear_bn_act's Triton kernels of the backward pass; the mathematics is in the package."""

from __future__ import annotations

from fastinfogan.kernels.bn_act.triton_tiles import (
    columns_of,
    gradient,
    input_gradient,
    load_stats,
    start_of,
    tile_of,
)
from fastinfogan.kernels.triton_math import multiply
from fastinfogan.kernels.triton_module import await_previous, jit, tl


@jit
def _product_gradient(
    dy_ptr,  # (groups, rows, outputs), any float
    z_ptr,  # like dy
    scale_ptr,  # (outputs,) float32
    shift_ptr,  # (outputs,) float32
    stats_ptr,  # (2, groups, outputs) float32
    group,
    groups,
    rows,
    outputs,
    columns,
    inside,
    slope,
    BLOCK_ROWS: tl.constexpr,
):
    """dz of a strip of the outputs, like dy, for all rows of a group; its dscale and dshift."""
    at, mask = tile_of(outputs, columns, inside, rows, BLOCK_ROWS)
    start = start_of(group, 0, rows, outputs)
    z = tl.load(z_ptr + start + at, mask=mask, other=0.0)
    dy = tl.load(dy_ptr + start + at, mask=mask, other=0.0)
    mean, rstd = load_stats(stats_ptr, group, groups, columns, inside, outputs)
    factor = tl.load(scale_ptr + columns, mask=inside, other=0.0) * rstd
    shift = tl.load(shift_ptr + columns, mask=inside, other=0.0)
    g, d = gradient(dy, z, mean, factor, shift, slope)  # g is 0 where dy is, past the last row
    dshift, dscale = tl.sum(g, 0), tl.sum(g * d, 0) * rstd
    from_g = dshift * (1.0 / rows) * factor
    from_z = dscale * (1.0 / rows) * rstd * factor
    return input_gradient(g, d, factor, from_g, from_z).to(dy.dtype), dscale, dshift


@jit
def linear_bn_act_backward_kernel(
    dx_ptr,  # (rows, inputs), any float
    dweight_ptr,  # (outputs, inputs), like dx, or None
    dscale_ptr,  # (outputs,) float32
    dshift_ptr,  # (outputs,) float32
    dy_ptr,  # (rows, outputs), like dx
    x_ptr,  # (rows, inputs), like dx, or None
    weight_ptr,  # (outputs, inputs), like dx
    z_ptr,  # (rows, outputs), like dx
    scale_ptr,  # (outputs,) float32
    shift_ptr,  # (outputs,) float32
    stats_ptr,  # (2, 1, outputs) float32: mean, 1 / sigma
    rows,
    inputs,
    outputs,
    slope,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_OUTPUTS: tl.constexpr,
    BLOCK_INPUTS: tl.constexpr,
    EARLY: tl.constexpr,
):
    """A program has a strip of the inputs; each finds the gradient before batchnorm by itself."""
    await_previous(EARLY)
    column, inside = columns_of(tl.program_id(0), inputs, BLOCK_INPUTS)
    x_at, x_mask = tile_of(inputs, column, inside, rows, BLOCK_ROWS)
    dtype: tl.constexpr = dx_ptr.dtype.element_ty
    if dweight_ptr is not None:
        x = tl.load(x_ptr + x_at, mask=x_mask, other=0.0)
    dx = tl.zeros((BLOCK_ROWS, BLOCK_INPUTS), tl.float32)
    for start in range(0, outputs, BLOCK_OUTPUTS):
        output = start + tl.arange(0, BLOCK_OUTPUTS)
        there = output < outputs
        strip = output[:, None] * inputs + column[None, :]
        strip_mask = there[:, None] & inside[None, :]
        weight = tl.load(weight_ptr + strip, mask=strip_mask, other=0.0)
        dz, dscale, dshift = _product_gradient(
            dy_ptr, z_ptr, scale_ptr, shift_ptr, stats_ptr, 0, 1, rows, outputs, output, there,
            slope, BLOCK_ROWS,
        )  # fmt: skip
        dx = multiply(dz, weight, dx)
        if dweight_ptr is not None:
            dweight = multiply(tl.trans(dz), x, tl.zeros((BLOCK_OUTPUTS, BLOCK_INPUTS), tl.float32))
            tl.store(dweight_ptr + strip, dweight.to(dtype), mask=strip_mask)
            if tl.program_id(0) == 0:
                tl.store(dscale_ptr + output, dscale, mask=there)
                tl.store(dshift_ptr + output, dshift, mask=there)
    tl.store(dx_ptr + x_at, dx.to(dtype), mask=x_mask)


@jit
def linear_bn_act_weight_kernel(
    dweight_ptr,  # (outputs, inputs), any float
    dz_ptr,  # (groups, rows, outputs), like dweight, or None
    dscale_ptr,  # (outputs,) float32
    dshift_ptr,  # (outputs,) float32
    dy_ptr,  # (groups, rows, outputs), like dweight
    x_ptr,  # (groups, rows, inputs), like dweight
    z_ptr,  # (groups, rows, outputs), like dweight
    scale_ptr,  # (outputs,) float32
    shift_ptr,  # (outputs,) float32
    stats_ptr,  # (2, groups, outputs) float32: mean, 1 / sigma
    rows,
    inputs,
    outputs,
    inputs_per_program,
    slope,
    GROUPS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_OUTPUTS: tl.constexpr,
    BLOCK_INPUTS: tl.constexpr,
    EARLY: tl.constexpr,
):
    """Programs (i, j): strip i of the outputs, part j of the inputs; the first part's write dz."""
    await_previous(EARLY)
    output, there = columns_of(tl.program_id(0), outputs, BLOCK_OUTPUTS)
    part = tl.program_id(1)
    dz, dscale, dshift = _product_gradient(
        dy_ptr, z_ptr, scale_ptr, shift_ptr, stats_ptr, 0, GROUPS, rows, outputs, output, there,
        slope, BLOCK_ROWS,
    )  # fmt: skip
    at, mask = tile_of(outputs, output, there, rows, BLOCK_ROWS)
    if dz_ptr is not None:
        if part == 0:
            tl.store(dz_ptr + at, dz, mask=mask)
    dz = tl.trans(dz)
    if GROUPS == 2:
        dz_2, dscale_2, dshift_2 = _product_gradient(
            dy_ptr, z_ptr, scale_ptr, shift_ptr, stats_ptr, 1, GROUPS, rows, outputs, output,
            there, slope, BLOCK_ROWS,
        )  # fmt: skip
        dscale += dscale_2
        dshift += dshift_2
        if dz_ptr is not None:
            if part == 0:
                tl.store(dz_ptr + start_of(1, 0, rows, outputs) + at, dz_2, mask=mask)
        dz_2 = tl.trans(dz_2)
    if part == 0:
        tl.store(dscale_ptr + output, dscale, mask=there)
        tl.store(dshift_ptr + output, dshift, mask=there)
    row = tl.arange(0, BLOCK_ROWS)
    first = part * inputs_per_program
    for start in range(first, tl.minimum(first + inputs_per_program, inputs), BLOCK_INPUTS):
        column = start + tl.arange(0, BLOCK_INPUTS)
        inside = (column < inputs)[None, :]
        x_ptrs = x_ptr + row[:, None] * inputs + column[None, :]
        x_mask = (row < rows)[:, None] & inside
        total = tl.zeros((BLOCK_OUTPUTS, BLOCK_INPUTS), tl.float32)
        total = multiply(dz, tl.load(x_ptrs, mask=x_mask, other=0.0), total)
        if GROUPS == 2:
            x_2 = tl.load(x_ptrs + rows * inputs, mask=x_mask, other=0.0)
            total = multiply(dz_2, x_2, total)
        strip = output.to(tl.int64)[:, None] * inputs + column[None, :]
        tl.store(
            dweight_ptr + strip,
            total.to(dweight_ptr.dtype.element_ty),
            mask=there[:, None] & inside,
        )
