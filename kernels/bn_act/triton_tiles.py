"""What bn_act's Triton kernels share: where numbers lie, and sums over rows and over parts.

Partials are sums over a part of the rows, as (count, mean, M2) going forward and as
(count, sum of g, sum of g x_hat) going back, with g = dy act'(u). They are added in one order
always: results are the same bits every time.
"""

from __future__ import annotations

from fastinfogan.kernels.triton_module import jit, tl


@jit
def columns_of(strip, channels, BLOCK_CHANNELS: tl.constexpr):
    """The channels of a strip, and which of them there are."""
    columns = strip * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    return columns, columns < channels


@jit
def start_of(group, first, rows, channels):
    """Where row ``first`` of a group begins."""
    return (tl.cast(group, tl.int64) * rows + first) * channels


@jit
def tile_of(channels, columns, inside, left, BLOCK_ROWS: tl.constexpr):
    """A tile's numbers, as offsets from its first row, and which there are if ``left`` rows are."""
    row = tl.arange(0, BLOCK_ROWS)
    return row[:, None] * channels + columns[None, :], (row < left)[:, None] & inside[None, :]


@jit
def spread(
    x_ptr,  # at a row's beginning, any float
    left,
    channels,
    columns,
    inside,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """Mean and M2 of the next ``left`` rows, in one pass."""
    zero = tl.load(x_ptr + columns, mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    squares = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    at, mask = tile_of(channels, columns, inside, left, BLOCK_ROWS)
    x = tl.load(x_ptr + at, mask=mask, other=0.0)
    for begin in range(0, left, BLOCK_ROWS):
        mask = tile_of(channels, columns, inside, left - begin, BLOCK_ROWS)[1]
        later = tile_of(channels, columns, inside, left - begin - BLOCK_ROWS, BLOCK_ROWS)[1]
        x_ptr += tl.cast(channels, tl.int64) * BLOCK_ROWS
        following = tl.load(x_ptr + at, mask=later, other=0.0)
        d = tl.where(mask, x.to(tl.float32) - zero[None, :], 0.0)
        total += d
        squares += d * d
        x = following
    return mean_and_m2(zero, total, squares, left)


@jit
def mean_and_m2(zero, total, squares, n):
    """Of n rows, from tiles of the sums of d and of d^2, the differences from the first row.

    M2 = sum(d^2) - sum(d)^2 / n. The first row is one of them, so M2 is sum(d)^2 / n^2 at least,
    and the subtraction costs a factor of n rounding errors at the very worst, two or three where
    the first row is like the others.
    """
    total = tl.sum(total, 0)
    d = total * (1.0 / n)
    return zero + d, tl.sum(squares, 0) - total * d


@jit
def gradients(
    dy_ptr,  # at a row's beginning, any float
    x_ptr,  # like dy
    left,
    channels,
    columns,
    inside,
    mean,
    rstd,
    weight,
    bias,
    slope,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """Sums of g and of g x_hat over the next ``left`` rows."""
    total = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    product = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    at, mask = tile_of(channels, columns, inside, left, BLOCK_ROWS)
    x = tl.load(x_ptr + at, mask=mask, other=0.0)
    dy = tl.load(dy_ptr + at, mask=mask, other=0.0)
    for begin in range(0, left, BLOCK_ROWS):
        later = tile_of(channels, columns, inside, left - begin - BLOCK_ROWS, BLOCK_ROWS)[1]
        x_ptr += tl.cast(channels, tl.int64) * BLOCK_ROWS
        dy_ptr += tl.cast(channels, tl.int64) * BLOCK_ROWS
        next_x = tl.load(x_ptr + at, mask=later, other=0.0)
        next_dy = tl.load(dy_ptr + at, mask=later, other=0.0)
        g, d = gradient(dy, x, mean, rstd * weight, bias, slope)
        total += g  # 0 past the last row, where dy is
        product += g * d
        x, dy = next_x, next_dy
    return tl.sum(total, 0), tl.sum(product, 0) * rstd


@jit
def gradient(dy, x, mean, scale, bias, slope):
    """g of a tile, and x - mean; scale is weight / sigma."""
    d = x.to(tl.float32) - mean[None, :]
    dy = dy.to(tl.float32)
    return tl.where(d * scale[None, :] + bias[None, :] > 0.0, dy, dy * slope), d


@jit
def output(x, mean, scale, bias, slope):
    """y of a tile; scale is weight / sigma."""
    u = (x.to(tl.float32) - mean[None, :]) * scale[None, :] + bias[None, :]
    return tl.where(u > 0.0, u, u * slope)


@jit
def input_gradient(g, d, scale, from_g, from_x):
    """dx of a tile: scale (g - mean of g - x_hat times the mean of g x_hat), multiplied out."""
    return g * scale[None, :] - from_g[None, :] - d * from_x[None, :]


@jit
def all_parts(
    partials_ptr,  # (parts, 3, groups, channels) float32
    size,  # its numbers
    group,
    groups,
    columns,
    inside,
    channels,
    BLOCK_PARTS: tl.constexpr,
):
    """The three numbers of all parts of a group: (parts,) and twice (parts, channels)."""
    plane = groups * channels
    part = tl.arange(0, BLOCK_PARTS)
    start = part * (3 * plane)
    there = start < size
    start += group * channels
    n = tl.load(partials_ptr + start, mask=there, other=0.0)  # one for all channels
    at = partials_ptr + start[:, None] + columns[None, :]
    mask = there[:, None] & inside[None, :]
    second = tl.load(at + plane, mask=mask, other=0.0)
    third = tl.load(at + 2 * plane, mask=mask, other=0.0)
    return n, second, third


@jit
def combined(
    partials_ptr,  # (parts, 3, groups, channels) float32: count, mean, M2
    size,
    group,
    groups,
    columns,
    inside,
    channels,
    BLOCK_PARTS: tl.constexpr,
):
    """Count, mean and M2 of a group; as in ``mean_and_m2``, from the first part's mean."""
    n, mean, m2 = all_parts(
        partials_ptr, size, group, groups, columns, inside, channels, BLOCK_PARTS
    )
    zero = tl.load(partials_ptr + (groups + group) * channels + columns, mask=inside, other=0.0)
    count = tl.sum(n, 0)
    d = mean - zero[None, :]
    total = tl.sum(n[:, None] * d, 0)
    squares = tl.sum(m2 + n[:, None] * d * d, 0)
    d = total * (1.0 / count)
    return count, zero + d, squares - total * d  # a single part keeps its own, to the bit


@jit
def summed(
    partials_ptr,  # (parts, 3, groups, channels) float32: count, sum of g, sum of g x_hat
    size,
    group,
    groups,
    columns,
    inside,
    channels,
    BLOCK_PARTS: tl.constexpr,
):
    """The three sums of a group."""
    n, total, product = all_parts(
        partials_ptr, size, group, groups, columns, inside, channels, BLOCK_PARTS
    )
    return tl.sum(n, 0), tl.sum(total, 0), tl.sum(product, 0)


@jit
def one_over_sigma(m2, n, eps):
    """1 / sigma of n numbers. (Dividing by n channel by channel would take a division each.)"""
    return tl.rsqrt(m2 * (1.0 / n) + eps)


@jit
def write_three(
    partials_ptr,  # (parts, 3, groups, channels) float32
    part,
    group,
    groups,
    columns,
    inside,
    channels,
    first,
    second,
    third,
):
    """Store a group's three numbers of a part; the first, its count, is one for all channels."""
    plane = groups * channels
    out = partials_ptr + part * (3 * plane) + group * channels + columns
    tl.store(out, tl.where(inside, tl.cast(first, tl.float32), 0.0), mask=inside)
    tl.store(out + plane, second, mask=inside)
    tl.store(out + 2 * plane, third, mask=inside)


@jit
def write_stats(
    stats_ptr,  # (2, groups, channels) float32: mean, 1 / sigma
    group,
    groups,
    columns,
    inside,
    channels,
    mean,
    rstd,
):
    """Store a group's statistics."""
    out = stats_ptr + group * channels + columns
    tl.store(out, mean, mask=inside)
    tl.store(out + groups * channels, rstd, mask=inside)


@jit
def load_stats(
    stats_ptr,  # (2, groups, channels) float32: mean, 1 / sigma
    group,
    groups,
    columns,
    inside,
    channels,
):
    """A group's mean and 1 / sigma."""
    at = stats_ptr + group * channels + columns
    mean = tl.load(at, mask=inside, other=0.0)
    return mean, tl.load(at + groups * channels, mask=inside, other=0.0)


@jit
def forward_sums(
    y,  # (rows, channels), rounded
    inside,  # (rows,): which there are
    rows,
):
    """Mean and M2 of a tile that whoever made y has in registers."""
    y = tl.where(inside[:, None], y.to(tl.float32), 0.0)
    mean = tl.sum(y, 0) * (1.0 / rows.to(tl.float32))
    d = tl.where(inside[:, None], y - mean[None, :], 0.0)
    return mean, tl.sum(d * d, 0)


@jit
def backward_sums(
    dy,  # (rows, channels), rounded; 0 past the last row
    x,  # like dy: what went into the batchnorm
    scale_ptr,  # (channels,) float32
    shift_ptr,  # (channels,) float32
    stats_ptr,  # (2, groups, channels) float32: mean, 1 / sigma
    group,
    groups,
    columns,
    inside,
    channels,
    slope,
):
    """Sums of g and of g x_hat of a tile that whoever made dy has in registers."""
    mean, rstd = load_stats(stats_ptr, group, groups, columns, inside, channels)
    factor = tl.load(scale_ptr + columns, mask=inside, other=0.0) * rstd
    shift = tl.load(shift_ptr + columns, mask=inside, other=0.0)
    g, d = gradient(dy, x, mean, factor, shift, slope)
    return tl.sum(g, 0), tl.sum(g * d, 0) * rstd
