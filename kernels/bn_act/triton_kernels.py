"""bn_act's Triton kernels; ``triton.py`` launches them. The mathematics is in the package.

Partials are sums over a part of the rows, as (count, mean, M2) going forward and as
(count, sum of g, sum of g x_hat) going back, with g = dy act'(u). They are what ranks exchange.
"""

from __future__ import annotations

from fastinfogan.kernels.triton_module import jit, tl


@jit
def _combine(
    partials_ptr,  # (parts, 3, groups, channels) float32: count, mean, M2
    parts,
    group,
    groups,
    columns,
    channels,
    BLOCK_PARTS: tl.constexpr,
):
    """Count, mean and M2 of a group, by the rule of Chan, Golub and LeVeque (1979)."""
    plane = groups * channels
    inside = columns < channels
    zero = columns.to(tl.float32) * 0.0
    count, mean, m2 = zero, zero, zero
    for start in range(0, parts, BLOCK_PARTS):
        part = start + tl.arange(0, BLOCK_PARTS)
        mask = (part < parts)[:, None] & inside[None, :]
        at = partials_ptr + part[:, None] * (3 * plane) + group * channels + columns[None, :]
        n = tl.load(at, mask=mask, other=0.0)
        means = tl.load(at + plane, mask=mask, other=0.0)
        n_here = tl.sum(n, 0)
        mean_here = tl.sum(n * means, 0) / tl.maximum(n_here, 1.0)
        d = tl.where(n > 0.0, means - mean_here[None, :], 0.0)
        m2_here = tl.sum(tl.load(at + 2 * plane, mask=mask, other=0.0) + n * d * d, 0)
        total = tl.maximum(count + n_here, 1.0)
        d = mean_here - mean
        mean += d * (n_here / total)
        m2 += m2_here + d * d * (count * n_here / total)
        count += n_here
    return count, mean, m2


@jit
def _sum(
    partials_ptr,  # (parts, 3, groups, channels) float32: count, sum of g, sum of g x_hat
    parts,
    group,
    groups,
    columns,
    channels,
    BLOCK_PARTS: tl.constexpr,
):
    """The three sums of a group."""
    plane = groups * channels
    inside = columns < channels
    zero = columns.to(tl.float32) * 0.0
    count, total, product = zero, zero, zero
    for start in range(0, parts, BLOCK_PARTS):
        part = start + tl.arange(0, BLOCK_PARTS)
        mask = (part < parts)[:, None] & inside[None, :]
        at = partials_ptr + part[:, None] * (3 * plane) + group * channels + columns[None, :]
        count += tl.sum(tl.load(at, mask=mask, other=0.0), 0)
        total += tl.sum(tl.load(at + plane, mask=mask, other=0.0), 0)
        product += tl.sum(tl.load(at + 2 * plane, mask=mask, other=0.0), 0)
    return count, total, product


@jit
def bn_act_partials_kernel(
    x_ptr,  # (groups, rows, channels), any float
    partials_ptr,  # (parts, 3, groups, channels) float32: count, mean, M2
    rows,
    rows_per_part,
    channels,
    groups,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """Welford's recurrence in every element of a tile; the tile's rows are merged at the end."""
    part, group = tl.program_id(1), tl.program_id(2)
    columns = tl.program_id(0) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    inside = columns < channels
    first = part * rows_per_part
    last = tl.minimum(first + rows_per_part, rows)
    x_ptr += group.to(tl.int64) * rows * channels
    mean = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    m2 = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    count = tl.zeros((BLOCK_ROWS,), tl.float32)
    for start in range(first, last, BLOCK_ROWS):
        row = start + tl.arange(0, BLOCK_ROWS)
        mask = (row < last)[:, None] & inside[None, :]
        at = row.to(tl.int64)[:, None] * channels + columns[None, :]
        x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
        count += (row < last).to(tl.float32)
        d = tl.where(mask, x - mean, 0.0)
        mean += d * (1.0 / tl.maximum(count, 1.0))[:, None]
        m2 += d * (x - mean)
    n = tl.sum(count, 0)
    mean_all = tl.sum(count[:, None] * mean, 0) / tl.maximum(n, 1.0)
    d = mean - mean_all[None, :]
    m2_all = tl.sum(m2 + count[:, None] * d * d, 0)
    plane = groups * channels
    at = partials_ptr + part * (3 * plane) + group * channels + columns
    tl.store(at, mean_all * 0.0 + n, mask=inside)
    tl.store(at + plane, mean_all, mask=inside)
    tl.store(at + 2 * plane, m2_all, mask=inside)


@jit
def bn_act_forward_kernel(
    x_ptr,  # (groups, rows, channels), any float
    y_ptr,  # like x
    partials_ptr,  # (parts, 3, groups, channels) float32: count, mean, M2; None in eval mode
    weight_ptr,  # (channels,) float32
    bias_ptr,  # (channels,) float32
    running_mean_ptr,  # (channels,) float32, or None
    running_var_ptr,  # (channels,) float32, or None
    stats_ptr,  # (2, groups, channels) float32: mean, 1 / sigma
    parts,
    rows,
    channels,
    groups,
    slope,
    momentum,
    eps,
    TRAINING: tl.constexpr,
    UPDATE: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    block, group = tl.program_id(1), tl.program_id(2)
    columns = tl.program_id(0) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    inside = columns < channels
    if TRAINING:
        n, mean, m2 = _combine(partials_ptr, parts, group, groups, columns, channels, BLOCK_PARTS)
        rstd = 1.0 / tl.sqrt(m2 / tl.maximum(n, 1.0) + eps)  # n is 0 past the last channel
    else:
        mean = tl.load(running_mean_ptr + columns, mask=inside, other=0.0)
        rstd = 1.0 / tl.sqrt(tl.load(running_var_ptr + columns, mask=inside, other=1.0) + eps)
    if block == 0:
        tl.store(stats_ptr + group * channels + columns, mean, mask=inside)
        tl.store(stats_ptr + (groups + group) * channels + columns, rstd, mask=inside)
        if UPDATE:
            if group == 0:  # one program, so that the groups come in order
                r_mean = tl.load(running_mean_ptr + columns, mask=inside, other=0.0)
                r_var = tl.load(running_var_ptr + columns, mask=inside, other=0.0)
                for g in range(groups):
                    n_g, mean_g, m2_g = _combine(
                        partials_ptr, parts, g, groups, columns, channels, BLOCK_PARTS
                    )
                    r_mean += momentum * (mean_g - r_mean)
                    r_var += momentum * (m2_g / tl.where(inside, n_g - 1.0, 1.0) - r_var)
                tl.store(running_mean_ptr + columns, r_mean, mask=inside)
                tl.store(running_var_ptr + columns, r_var, mask=inside)
    weight = tl.load(weight_ptr + columns, mask=inside, other=0.0)
    bias = tl.load(bias_ptr + columns, mask=inside, other=0.0)
    row = block * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    mask = (row < rows)[:, None] & inside[None, :]
    at = (group.to(tl.int64) * rows + row.to(tl.int64))[:, None] * channels + columns[None, :]
    x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
    u = (x - mean[None, :]) * rstd[None, :] * weight[None, :] + bias[None, :]
    y = tl.where(u > 0.0, u, u * slope)
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=mask)


@jit
def bn_act_backward_partials_kernel(
    dy_ptr,  # (groups, rows, channels), any float
    x_ptr,  # like dy
    weight_ptr,  # (channels,) float32
    bias_ptr,  # (channels,) float32
    stats_ptr,  # (2, groups, channels) float32: mean, 1 / sigma
    partials_ptr,  # (parts, 3, groups, channels) float32: count, sum of g, sum of g x_hat
    rows,
    rows_per_part,
    channels,
    groups,
    slope,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    part, group = tl.program_id(1), tl.program_id(2)
    columns = tl.program_id(0) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    inside = columns < channels
    mean = tl.load(stats_ptr + group * channels + columns, mask=inside, other=0.0)
    rstd = tl.load(stats_ptr + (groups + group) * channels + columns, mask=inside, other=0.0)
    weight = tl.load(weight_ptr + columns, mask=inside, other=0.0)
    bias = tl.load(bias_ptr + columns, mask=inside, other=0.0)
    first = part * rows_per_part
    last = tl.minimum(first + rows_per_part, rows)
    total = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    product = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    for start in range(first, last, BLOCK_ROWS):
        row = start + tl.arange(0, BLOCK_ROWS)
        mask = (row < last)[:, None] & inside[None, :]
        at = (group.to(tl.int64) * rows + row.to(tl.int64))[:, None] * channels + columns[None, :]
        x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
        dy = tl.load(dy_ptr + at, mask=mask, other=0.0).to(tl.float32)
        x_hat = (x - mean[None, :]) * rstd[None, :]
        g = tl.where(x_hat * weight[None, :] + bias[None, :] > 0.0, dy, dy * slope)
        total += g
        product += tl.where(mask, g * x_hat, 0.0)
    plane = groups * channels
    at = partials_ptr + part * (3 * plane) + group * channels + columns
    tl.store(at, mean * 0.0 + tl.maximum(last - first, 0), mask=inside)
    tl.store(at + plane, tl.sum(total, 0), mask=inside)
    tl.store(at + 2 * plane, tl.sum(product, 0), mask=inside)


@jit
def bn_act_backward_kernel(
    dy_ptr,  # (groups, rows, channels), any float
    x_ptr,  # like dy
    dx_ptr,  # like dy
    weight_ptr,  # (channels,) float32
    bias_ptr,  # (channels,) float32
    stats_ptr,  # (2, groups, channels) float32: mean, 1 / sigma
    own_ptr,  # (own_parts, 3, groups, channels) float32: this rank's partials
    partials_ptr,  # (parts, 3, groups, channels) float32: all ranks' partials
    dweight_ptr,  # (channels,) float32
    dbias_ptr,  # (channels,) float32
    own_parts,
    parts,
    rows,
    channels,
    groups,
    slope,
    TRAINING: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    block, group = tl.program_id(1), tl.program_id(2)
    columns = tl.program_id(0) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    inside = columns < channels
    if (block == 0) & (group == 0):
        dbias = tl.zeros((BLOCK_CHANNELS,), tl.float32)
        dweight = tl.zeros((BLOCK_CHANNELS,), tl.float32)
        for g in range(groups):
            _, total, product = _sum(own_ptr, own_parts, g, groups, columns, channels, BLOCK_PARTS)
            dbias += total
            dweight += product
        tl.store(dbias_ptr + columns, dbias, mask=inside)
        tl.store(dweight_ptr + columns, dweight, mask=inside)
    mean = tl.load(stats_ptr + group * channels + columns, mask=inside, other=0.0)
    rstd = tl.load(stats_ptr + (groups + group) * channels + columns, mask=inside, other=0.0)
    weight = tl.load(weight_ptr + columns, mask=inside, other=0.0)
    bias = tl.load(bias_ptr + columns, mask=inside, other=0.0)
    row = block * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    mask = (row < rows)[:, None] & inside[None, :]
    at = (group.to(tl.int64) * rows + row.to(tl.int64))[:, None] * channels + columns[None, :]
    x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
    dy = tl.load(dy_ptr + at, mask=mask, other=0.0).to(tl.float32)
    x_hat = (x - mean[None, :]) * rstd[None, :]
    g_x = tl.where(x_hat * weight[None, :] + bias[None, :] > 0.0, dy, dy * slope)
    if TRAINING:
        n, total, product = _sum(partials_ptr, parts, group, groups, columns, channels, BLOCK_PARTS)
        n = tl.maximum(n, 1.0)  # 0 past the last channel
        g_x -= (total / n)[None, :] + x_hat * (product / n)[None, :]
    dx = g_x * (weight * rstd)[None, :]
    tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=mask)
