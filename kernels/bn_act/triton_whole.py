"""bn_act's Triton kernels for few rows: a program has all rows of a strip, and one launch does all.

The second pass over the rows finds them in the first-level cache.
"""

from __future__ import annotations

from fastinfogan.kernels.bn_act.triton_tiles import (
    columns_of,
    gradient,
    gradients,
    load_stats,
    one_over_sigma,
    output,
    spread,
    start_of,
    tile_of,
    write_stats,
)
from fastinfogan.kernels.triton_module import jit, tl


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
):
    columns, inside = columns_of(tl.program_id(0), channels, BLOCK_CHANNELS)
    weight = tl.load(weight_ptr + columns, mask=inside, other=0.0)
    bias = tl.load(bias_ptr + columns, mask=inside, other=0.0)
    if running_mean_ptr is not None:
        r_mean = tl.load(running_mean_ptr + columns, mask=inside, other=0.0)
        r_var = tl.load(running_var_ptr + columns, mask=inside, other=0.0)
    for group in range(groups):
        start = start_of(group, 0, rows, channels)
        mean, m2 = spread(
            x_ptr + start, rows, channels, columns, inside, BLOCK_ROWS, BLOCK_CHANNELS
        )
        rstd = one_over_sigma(m2, rows, eps)
        write_stats(stats_ptr, group, groups, columns, inside, channels, mean, rstd)
        if running_mean_ptr is not None:
            r_mean += momentum * (mean - r_mean)
            r_var += momentum * (m2 * (1.0 / (rows - 1.0)) - r_var)
        for begin in range(0, rows, BLOCK_ROWS):
            at, mask = tile_of(channels, columns, inside, rows - begin, BLOCK_ROWS)
            x = tl.load(x_ptr + start + at, mask=mask, other=0.0)
            y = output(x, mean, rstd, weight, bias, slope)
            tl.store(y_ptr + start + at, y.to(y_ptr.dtype.element_ty), mask=mask)
            start += tl.cast(channels, tl.int64) * BLOCK_ROWS
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
):
    columns, inside = columns_of(tl.program_id(0), channels, BLOCK_CHANNELS)
    weight = tl.load(weight_ptr + columns, mask=inside, other=0.0)
    bias = tl.load(bias_ptr + columns, mask=inside, other=0.0)
    dbias = tl.zeros((BLOCK_CHANNELS,), tl.float32)
    dweight = tl.zeros((BLOCK_CHANNELS,), tl.float32)
    for group in range(groups):
        start = start_of(group, 0, rows, channels)
        mean, rstd = load_stats(stats_ptr, group, groups, columns, inside, channels)
        total, product = gradients(
            dy_ptr + start,
            x_ptr + start,
            rows,
            channels,
            columns,
            inside,
            mean,
            rstd,
            weight,
            bias,
            slope,
            BLOCK_ROWS,
            BLOCK_CHANNELS,
        )
        dbias += total
        dweight += product
        mean_g = tl.zeros((BLOCK_CHANNELS,), tl.float32)
        mean_gx = mean_g
        if TRAINING:
            mean_g, mean_gx = total * (1.0 / rows), product * (1.0 / rows)
        for begin in range(0, rows, BLOCK_ROWS):
            at, mask = tile_of(channels, columns, inside, rows - begin, BLOCK_ROWS)
            x = tl.load(x_ptr + start + at, mask=mask, other=0.0)
            dy = tl.load(dy_ptr + start + at, mask=mask, other=0.0)
            g, x_hat = gradient(dy, x, mean, rstd, weight, bias, slope)
            dx = (g - mean_g[None, :] - x_hat * mean_gx[None, :]) * (weight * rstd)[None, :]
            tl.store(dx_ptr + start + at, dx.to(dx_ptr.dtype.element_ty), mask=mask)
            start += tl.cast(channels, tl.int64) * BLOCK_ROWS
    tl.store(dbias_ptr + columns, dbias, mask=inside)
    tl.store(dweight_ptr + columns, dweight, mask=inside)
