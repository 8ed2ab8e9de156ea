"""bn_act's Triton kernels that gather sums; the mathematics is in the package.

Partials are sums over a part of the rows, as (count, mean, M2) going forward and as
(count, sum of g, sum of g x_hat) going back, with g = dy act'(u). Those of a strip of channels are
merged once, by the program that finishes last, in the order of the parts: the result doesn't depend
on which program that is. Ranks exchange theirs merged.
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
        # From the first part's mean on, so that a single part keeps its own, to the bit.
        base = partials_ptr + start * (3 * plane) + plane + group * channels + columns
        base = tl.load(base, mask=inside, other=0.0)
        mean_here = base + tl.sum(n * (means - base[None, :]), 0) / tl.maximum(n_here, 1.0)
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
def _is_last(counter_ptr):
    """Whether all other programs of this strip and group have stored their partials."""
    tl.debug_barrier()  # all of this program's stores come before its ticket
    ticket = tl.atomic_add(counter_ptr, 1, sem="acq_rel")
    return ticket == tl.num_programs(1) - 1


@jit
def _finish_forward(
    partials_ptr,  # (parts, 3, groups, channels) float32: count, mean, M2
    merged_ptr,  # (3, groups, channels) float32, the same of all parts
    stats_ptr,  # (2, groups, channels) float32: mean, 1 / sigma; or None
    parts,
    group,
    groups,
    columns,
    channels,
    eps,
    BLOCK_PARTS: tl.constexpr,
):
    """Merges the parts of a strip and group and writes what comes of them; one program's work."""
    n, mean, m2 = _combine(partials_ptr, parts, group, groups, columns, channels, BLOCK_PARTS)
    inside = columns < channels
    plane = groups * channels
    at = group * channels + columns
    tl.store(merged_ptr + at, n, mask=inside)
    tl.store(merged_ptr + plane + at, mean, mask=inside)
    tl.store(merged_ptr + 2 * plane + at, m2, mask=inside)
    if stats_ptr is not None:
        rstd = 1.0 / tl.sqrt(m2 / tl.maximum(n, 1.0) + eps)  # n is 0 past the last channel
        tl.store(stats_ptr + at, mean, mask=inside)
        tl.store(stats_ptr + plane + at, rstd, mask=inside)


@jit
def bn_act_partials_kernel(
    x_ptr,  # (groups, rows, channels), any float
    partials_ptr,  # (parts, 3, groups, channels) float32: count, mean, M2
    counters_ptr,  # (groups, strips) int32: 0 between launches
    merged_ptr,  # (3, groups, channels) float32, the same of all parts
    stats_ptr,  # (2, groups, channels) float32: mean, 1 / sigma; or None
    rows,
    rows_per_part,
    channels,
    groups,
    eps,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
):
    """Welford's recurrence in every element of a tile; the tile's rows are merged at the end."""
    strip, part, group = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    columns = strip * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    inside = columns < channels
    first = part * rows_per_part
    left = tl.minimum(rows_per_part, rows - first)
    x_ptr += (group.to(tl.int64) * rows + first) * channels
    row = tl.arange(0, BLOCK_ROWS)
    at = row[:, None] * channels + columns[None, :]
    mean = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    m2 = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    count = tl.zeros((BLOCK_ROWS,), tl.float32)
    for start in range(0, left, BLOCK_ROWS):
        here = row < left - start
        mask = here[:, None] & inside[None, :]
        x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
        x_ptr += tl.cast(channels, tl.int64) * BLOCK_ROWS
        count += here.to(tl.float32)
        d = tl.where(mask, x - mean, 0.0)
        mean += d * (1.0 / tl.maximum(count, 1.0))[:, None]
        m2 += d * (x - mean)
    n = tl.sum(count, 0)
    mean_all = tl.sum(count[:, None] * mean, 0) / tl.maximum(n, 1.0)
    d = mean - mean_all[None, :]
    m2_all = tl.sum(m2 + count[:, None] * d * d, 0)
    plane = groups * channels
    out = partials_ptr + part * (3 * plane) + group * channels + columns
    tl.store(out, mean_all * 0.0 + n, mask=inside)
    tl.store(out + plane, mean_all, mask=inside)
    tl.store(out + 2 * plane, m2_all, mask=inside)
    counter_ptr = counters_ptr + group * tl.num_programs(0) + strip
    if _is_last(counter_ptr):
        _finish_forward(
            partials_ptr,
            merged_ptr,
            stats_ptr,
            tl.num_programs(1),
            group,
            groups,
            columns,
            channels,
            eps,
            BLOCK_PARTS,
        )
        tl.store(counter_ptr, 0)


@jit
def bn_act_merge_kernel(
    partials_ptr,  # (parts, 3, groups, channels) float32: count, mean, M2 of every rank
    merged_ptr,  # (3, groups, channels) float32, the same of all ranks
    stats_ptr,  # (2, groups, channels) float32: mean, 1 / sigma
    parts,
    channels,
    groups,
    eps,
    BLOCK_CHANNELS: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
):
    """What ``bn_act_partials_kernel`` finishes with, for all ranks' partials."""
    columns = tl.program_id(0) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    _finish_forward(
        partials_ptr,
        merged_ptr,
        stats_ptr,
        parts,
        tl.program_id(1),
        groups,
        columns,
        channels,
        eps,
        BLOCK_PARTS,
    )


@jit
def bn_act_backward_partials_kernel(
    dy_ptr,  # (groups, rows, channels), any float
    x_ptr,  # like dy
    weight_ptr,  # (channels,) float32
    bias_ptr,  # (channels,) float32
    stats_ptr,  # (2, groups, channels) float32: mean, 1 / sigma
    partials_ptr,  # (parts, 3, groups, channels) float32: count, sum of g, sum of g x_hat
    counters_ptr,  # (groups, strips) int32: 0 between launches
    merged_ptr,  # (3, groups, channels) float32, the same of all parts
    rows,
    rows_per_part,
    channels,
    groups,
    slope,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
):
    strip, part, group = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    columns = strip * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    inside = columns < channels
    mean = tl.load(stats_ptr + group * channels + columns, mask=inside, other=0.0)
    rstd = tl.load(stats_ptr + (groups + group) * channels + columns, mask=inside, other=0.0)
    weight = tl.load(weight_ptr + columns, mask=inside, other=0.0)
    bias = tl.load(bias_ptr + columns, mask=inside, other=0.0)
    first = part * rows_per_part
    left = tl.minimum(rows_per_part, rows - first)
    tile = (group.to(tl.int64) * rows + first) * channels
    row = tl.arange(0, BLOCK_ROWS)
    at = row[:, None] * channels + columns[None, :]
    total = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    product = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    for start in range(0, left, BLOCK_ROWS):
        mask = (row < left - start)[:, None] & inside[None, :]
        x = tl.load(x_ptr + tile + at, mask=mask, other=0.0).to(tl.float32)
        dy = tl.load(dy_ptr + tile + at, mask=mask, other=0.0).to(tl.float32)
        tile += tl.cast(channels, tl.int64) * BLOCK_ROWS
        x_hat = (x - mean[None, :]) * rstd[None, :]
        g = tl.where(x_hat * weight[None, :] + bias[None, :] > 0.0, dy, dy * slope)
        total += g
        product += tl.where(mask, g * x_hat, 0.0)
    plane = groups * channels
    out = partials_ptr + part * (3 * plane) + group * channels + columns
    tl.store(out, mean * 0.0 + tl.maximum(left, 0), mask=inside)
    tl.store(out + plane, tl.sum(total, 0), mask=inside)
    tl.store(out + 2 * plane, tl.sum(product, 0), mask=inside)
    counter_ptr = counters_ptr + group * tl.num_programs(0) + strip
    if _is_last(counter_ptr):
        n, sum_g, sum_gx = _sum(
            partials_ptr, tl.num_programs(1), group, groups, columns, channels, BLOCK_PARTS
        )
        out = merged_ptr + group * channels + columns
        tl.store(out, n, mask=inside)
        tl.store(out + plane, sum_g, mask=inside)
        tl.store(out + 2 * plane, sum_gx, mask=inside)
        tl.store(counter_ptr, 0)
