"""bn_act's Triton kernels that gather sums over parts of the rows."""

from __future__ import annotations

from fastinfogan.kernels.bn_act.triton_tiles import (
    columns_of,
    combined,
    gradients,
    load_stats,
    spread,
    start_of,
    summed,
    write_three,
)
from fastinfogan.kernels.triton_module import await_previous, jit, tl


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
    EARLY: tl.constexpr,
):
    await_previous(EARLY)
    part, group = tl.program_id(1), tl.program_id(2)
    columns, inside = columns_of(tl.program_id(0), channels, BLOCK_CHANNELS)
    first = part * rows_per_part
    left = tl.minimum(rows_per_part, rows - first)
    x_ptr += start_of(group, first, rows, channels)
    mean, m2 = spread(x_ptr, left, channels, columns, inside, BLOCK_ROWS, BLOCK_CHANNELS)
    write_three(partials_ptr, part, group, groups, columns, inside, channels, left, mean, m2)


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
    EARLY: tl.constexpr,
):
    await_previous(EARLY)
    part, group = tl.program_id(1), tl.program_id(2)
    columns, inside = columns_of(tl.program_id(0), channels, BLOCK_CHANNELS)
    mean, rstd = load_stats(stats_ptr, group, groups, columns, inside, channels)
    weight = tl.load(weight_ptr + columns, mask=inside, other=0.0)
    bias = tl.load(bias_ptr + columns, mask=inside, other=0.0)
    first = part * rows_per_part
    left = tl.minimum(rows_per_part, rows - first)
    start = start_of(group, first, rows, channels)
    total, product = gradients(
        dy_ptr + start,
        x_ptr + start,
        left,
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
    write_three(partials_ptr, part, group, groups, columns, inside, channels, left, total, product)


@jit
def bn_act_merge_kernel(
    partials_ptr,  # (parts, 3, groups, channels) float32, of either pass
    merged_ptr,  # (1, 3, groups, channels) float32, the same of all parts
    size,
    channels,
    groups,
    FORWARD: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
    EARLY: tl.constexpr,
):
    """For ranks: what they exchange shouldn't grow with the parts."""
    await_previous(EARLY)
    group = tl.program_id(1)
    columns, inside = columns_of(tl.program_id(0), channels, BLOCK_CHANNELS)
    if FORWARD:
        n, a, b = combined(
            partials_ptr, size, group, groups, columns, inside, channels, BLOCK_PARTS
        )
    else:
        n, a, b = summed(partials_ptr, size, group, groups, columns, inside, channels, BLOCK_PARTS)
    write_three(merged_ptr, 0, group, groups, columns, inside, channels, n, a, b)
