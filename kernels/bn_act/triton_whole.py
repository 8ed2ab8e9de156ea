"""bn_act's Triton kernels for few rows: a program keeps all rows of a strip in its registers."""

from __future__ import annotations

from fastinfogan.kernels.bn_act.triton_tiles import (
    columns_of,
    gradient,
    input_gradient,
    load_stats,
    mean_and_m2,
    one_over_sigma,
    output,
    start_of,
    tile_of,
    write_stats,
)
from fastinfogan.kernels.triton_module import await_previous, jit, tl


@jit
def bn_act_whole_forward_kernel(
    x_ptr,  # (groups, rows, channels), any float
    y_ptr,  # like x
    weight_ptr,  # (channels,) float32
    bias_ptr,  # (channels,) float32
    running_mean_ptr,  # (channels,) float32, or None
    running_var_ptr,  # (channels,) float32, or None
    stats_ptr,  # (2, groups, channels) float32: mean, 1 / sigma
    rows,
    channels,
    groups,
    slope,
    momentum,
    eps,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    EARLY: tl.constexpr,
):
    await_previous(EARLY)
    columns, inside = columns_of(tl.program_id(0), channels, BLOCK_CHANNELS)
    weight = tl.load(weight_ptr + columns, mask=inside, other=0.0)
    bias = tl.load(bias_ptr + columns, mask=inside, other=0.0)
    if running_mean_ptr is not None:
        r_mean = tl.load(running_mean_ptr + columns, mask=inside, other=0.0)
        r_var = tl.load(running_var_ptr + columns, mask=inside, other=0.0)
    tl.debug_barrier()  # else the compiler puts these loads off until there are sums
    at, mask = tile_of(channels, columns, inside, rows, BLOCK_ROWS)
    for group in range(groups):
        start = start_of(group, 0, rows, channels)
        x = tl.load(x_ptr + start + at, mask=mask, other=0.0)
        zero = tl.load(x_ptr + start + columns, mask=inside, other=0.0).to(tl.float32)
        d = tl.where(mask, x.to(tl.float32) - zero[None, :], 0.0)
        mean, m2 = mean_and_m2(zero, d, d * d, rows)
        rstd = one_over_sigma(m2, rows, eps)
        write_stats(stats_ptr, group, groups, columns, inside, channels, mean, rstd)
        if running_mean_ptr is not None:
            r_mean += momentum * (mean - r_mean)
            r_var += momentum * (m2 * (1.0 / (rows - 1.0)) - r_var)
        y = output(x, mean, rstd * weight, bias, slope)
        tl.store(y_ptr + start + at, y.to(y_ptr.dtype.element_ty), mask=mask)
    if running_mean_ptr is not None:
        tl.store(running_mean_ptr + columns, r_mean, mask=inside)
        tl.store(running_var_ptr + columns, r_var, mask=inside)


@jit
def bn_act_whole_backward_kernel(
    dy_ptr,  # (groups, rows, channels), any float
    x_ptr,  # like dy
    dx_ptr,  # like dy
    weight_ptr,  # (channels,) float32
    bias_ptr,  # (channels,) float32
    stats_ptr,  # (2, groups, channels) float32: mean, 1 / sigma
    dweight_ptr,  # (channels,) float32
    dbias_ptr,  # (channels,) float32
    rows,
    channels,
    groups,
    slope,
    TRAINING: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    EARLY: tl.constexpr,
):
    await_previous(EARLY)
    columns, inside = columns_of(tl.program_id(0), channels, BLOCK_CHANNELS)
    weight = tl.load(weight_ptr + columns, mask=inside, other=0.0)
    bias = tl.load(bias_ptr + columns, mask=inside, other=0.0)
    dbias = tl.zeros((BLOCK_CHANNELS,), tl.float32)
    dweight = tl.zeros((BLOCK_CHANNELS,), tl.float32)
    at, mask = tile_of(channels, columns, inside, rows, BLOCK_ROWS)
    for group in range(groups):
        start = start_of(group, 0, rows, channels)
        mean, rstd = load_stats(stats_ptr, group, groups, columns, inside, channels)
        x = tl.load(x_ptr + start + at, mask=mask, other=0.0)
        dy = tl.load(dy_ptr + start + at, mask=mask, other=0.0)
        scale = rstd * weight
        g, d = gradient(dy, x, mean, scale, bias, slope)
        total, product = tl.sum(g, 0), tl.sum(g * d, 0) * rstd
        dbias += total
        dweight += product
        from_g = tl.zeros((BLOCK_CHANNELS,), tl.float32)
        from_x = from_g
        if TRAINING:
            from_g = total * (1.0 / rows) * scale
            from_x = product * (1.0 / rows) * rstd * scale
        dx = input_gradient(g, d, scale, from_g, from_x)
        tl.store(dx_ptr + start + at, dx.to(dx_ptr.dtype.element_ty), mask=mask)
    tl.store(dbias_ptr + columns, dbias, mask=inside)
    tl.store(dweight_ptr + columns, dweight, mask=inside)
