"""bn_act's Triton kernels that apply what ``triton_sums.py`` gathered.

A program loads its first rows before it adds up the parts' sums, and while they are on their way.
The programs with the first block number (of the first group) apply nothing: they write what is one
for all rows.
"""

from __future__ import annotations

from fastinfogan.kernels.bn_act.triton_tiles import (
    columns_of,
    combined,
    gradient,
    input_gradient,
    load_stats,
    one_over_sigma,
    output,
    start_of,
    summed,
    tile_of,
    write_stats,
)
from fastinfogan.kernels.triton_module import await_previous, jit, tl


@jit
def bn_act_forward_kernel(
    x_ptr,  # (groups, rows, channels), any float
    y_ptr,  # like x
    weight_ptr,  # (channels,) float32
    bias_ptr,  # (channels,) float32
    running_mean_ptr,  # (channels,) float32, or None
    running_var_ptr,  # (channels,) float32, or None
    partials_ptr,  # (parts, 3, groups, channels) float32: count, mean, M2; None in eval mode
    stats_ptr,  # (2, groups, channels) float32: mean, 1 / sigma
    size,
    rows,
    rows_per_block,
    channels,
    groups,
    slope,
    momentum,
    eps,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
    EARLY: tl.constexpr,
):
    await_previous(EARLY)
    block, group = tl.program_id(1), tl.program_id(2)
    columns, inside = columns_of(tl.program_id(0), channels, BLOCK_CHANNELS)
    if block == 0:
        if group == 0:
            _record(
                running_mean_ptr,
                running_var_ptr,
                partials_ptr,
                stats_ptr,
                size,
                groups,
                columns,
                inside,
                channels,
                momentum,
                eps,
                BLOCK_PARTS,
            )
    else:
        first = (block - 1) * rows_per_block
        left = tl.minimum(rows_per_block, rows - first)
        start = start_of(group, first, rows, channels)
        x_ptr += start
        y_ptr += start
        at, mask = tile_of(channels, columns, inside, left, BLOCK_ROWS)
        x = tl.load(x_ptr + at, mask=mask, other=0.0)
        weight = tl.load(weight_ptr + columns, mask=inside, other=0.0)
        bias = tl.load(bias_ptr + columns, mask=inside, other=0.0)
        tl.debug_barrier()  # else the compiler puts these loads off until the sums are there
        if partials_ptr is not None:
            n, mean, m2 = combined(
                partials_ptr, size, group, groups, columns, inside, channels, BLOCK_PARTS
            )
            rstd = one_over_sigma(m2, n, eps)
        else:
            mean = tl.load(running_mean_ptr + columns, mask=inside, other=0.0)
            rstd = tl.rsqrt(tl.load(running_var_ptr + columns, mask=inside, other=1.0) + eps)
        for begin in range(0, left, BLOCK_ROWS):
            mask = tile_of(channels, columns, inside, left - begin, BLOCK_ROWS)[1]
            later = tile_of(channels, columns, inside, left - begin - BLOCK_ROWS, BLOCK_ROWS)[1]
            x_ptr += tl.cast(channels, tl.int64) * BLOCK_ROWS
            following = tl.load(x_ptr + at, mask=later, other=0.0)
            y = output(x, mean, rstd * weight, bias, slope)
            tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=mask)
            y_ptr += tl.cast(channels, tl.int64) * BLOCK_ROWS
            x = following


@jit
def _record(
    running_mean_ptr,
    running_var_ptr,
    partials_ptr,
    stats_ptr,
    size,
    groups,
    columns,
    inside,
    channels,
    momentum,
    eps,
    BLOCK_PARTS: tl.constexpr,
):
    """The statistics for the backward pass, and the running ones, by the groups in their order."""
    if running_mean_ptr is not None:
        r_mean = tl.load(running_mean_ptr + columns, mask=inside, other=0.0)
        r_var = tl.load(running_var_ptr + columns, mask=inside, other=0.0)
    if partials_ptr is not None:
        for group in range(groups):
            n, mean, m2 = combined(
                partials_ptr, size, group, groups, columns, inside, channels, BLOCK_PARTS
            )
            rstd = one_over_sigma(m2, n, eps)
            write_stats(stats_ptr, group, groups, columns, inside, channels, mean, rstd)
            if running_mean_ptr is not None:
                r_mean += momentum * (mean - r_mean)
                r_var += momentum * (m2 * (1.0 / (n - 1.0)) - r_var)
        if running_mean_ptr is not None:
            tl.store(running_mean_ptr + columns, r_mean, mask=inside)
            tl.store(running_var_ptr + columns, r_var, mask=inside)
    else:
        rstd = tl.rsqrt(r_var + eps)
        write_stats(stats_ptr, 0, groups, columns, inside, channels, r_mean, rstd)


@jit
def bn_act_backward_kernel(
    dy_ptr,  # (groups, rows, channels), any float
    x_ptr,  # like dy
    dx_ptr,  # like dy
    weight_ptr,  # (channels,) float32
    bias_ptr,  # (channels,) float32
    stats_ptr,  # (2, groups, channels) float32: mean, 1 / sigma
    own_ptr,  # (own_size, 3, groups, channels) float32: count, sum of g, sum of g x_hat
    partials_ptr,  # (parts, 3, groups, channels) float32, of all ranks
    dweight_ptr,  # (channels,) float32
    dbias_ptr,  # (channels,) float32
    own_size,
    size,
    rows,
    rows_per_block,
    channels,
    groups,
    slope,
    TRAINING: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
    EARLY: tl.constexpr,
):
    await_previous(EARLY)
    block, group = tl.program_id(1), tl.program_id(2)
    columns, inside = columns_of(tl.program_id(0), channels, BLOCK_CHANNELS)
    if block == 0:
        if group == 0:
            dbias = tl.zeros((BLOCK_CHANNELS,), tl.float32)
            dweight = tl.zeros((BLOCK_CHANNELS,), tl.float32)
            for g in range(groups):
                _, total, product = summed(
                    own_ptr, own_size, g, groups, columns, inside, channels, BLOCK_PARTS
                )
                dbias += total
                dweight += product
            tl.store(dbias_ptr + columns, dbias, mask=inside)
            tl.store(dweight_ptr + columns, dweight, mask=inside)
    else:
        first = (block - 1) * rows_per_block
        left = tl.minimum(rows_per_block, rows - first)
        start = start_of(group, first, rows, channels)
        dy_ptr += start
        x_ptr += start
        dx_ptr += start
        at, mask = tile_of(channels, columns, inside, left, BLOCK_ROWS)
        x = tl.load(x_ptr + at, mask=mask, other=0.0)
        dy = tl.load(dy_ptr + at, mask=mask, other=0.0)
        mean, rstd = load_stats(stats_ptr, group, groups, columns, inside, channels)
        weight = tl.load(weight_ptr + columns, mask=inside, other=0.0)
        bias = tl.load(bias_ptr + columns, mask=inside, other=0.0)
        tl.debug_barrier()  # else the compiler puts these loads off until the sums are there
        scale = weight * rstd
        from_g = tl.zeros((BLOCK_CHANNELS,), tl.float32)
        from_x = from_g
        if TRAINING:
            n, total, product = summed(
                partials_ptr, size, group, groups, columns, inside, channels, BLOCK_PARTS
            )
            from_g = total * (1.0 / n) * scale
            from_x = product * (1.0 / n) * rstd * scale
        for begin in range(0, left, BLOCK_ROWS):
            mask = tile_of(channels, columns, inside, left - begin, BLOCK_ROWS)[1]
            later = tile_of(channels, columns, inside, left - begin - BLOCK_ROWS, BLOCK_ROWS)[1]
            x_ptr += tl.cast(channels, tl.int64) * BLOCK_ROWS
            dy_ptr += tl.cast(channels, tl.int64) * BLOCK_ROWS
            next_x = tl.load(x_ptr + at, mask=later, other=0.0)
            next_dy = tl.load(dy_ptr + at, mask=later, other=0.0)
            g, d = gradient(dy, x, mean, scale, bias, slope)
            dx = input_gradient(g, d, scale, from_g, from_x)
            tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=mask)
            dx_ptr += tl.cast(channels, tl.int64) * BLOCK_ROWS
            x, dy = next_x, next_dy
