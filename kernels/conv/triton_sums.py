"""What conv's Triton kernels find for a batchnorm behind them: the sums that its own pass would.

A program has a tile of the map, and in registers. Of its pixels, as rounded, it writes count, mean
and M2 of every channel, as ``bn_act`` has them. Where there are many tiles, the last program of
each few, by a counter in memory, joins theirs in their order: results are the same bits every time.
"""

from __future__ import annotations

from fastinfogan.kernels.bn_act.triton_tiles import combined, write_three
from fastinfogan.kernels.triton_module import jit, tl


@jit
def write_sums(
    y,  # (pixels, channels), rounded
    inside,  # (pixels,): which there are
    pixels,
    n,  # (channels,): their numbers
    there,  # (channels,)
    tile,  # of the group
    group,
    strip,  # of the channels
    partials_ptr,  # (parts, 3, groups, channels) float32: count, mean, M2
    scratch_ptr,  # (tiles, 3, groups, channels) float32; None: every tile is a part
    counters_ptr,  # (strips, groups, parts) int32: 0 between launches; or None
    tiles,  # of a group
    each,  # tiles of a part
    plane,  # groups * channels
    CHANNELS: tl.constexpr,
    BLOCK_TILES: tl.constexpr,
):
    groups = plane // CHANNELS
    share = 1.0 / pixels.to(tl.float32)
    y = tl.where(inside[:, None], y.to(tl.float32), 0.0)
    mean = tl.sum(y, 0) * share
    d = tl.where(inside[:, None], y - mean[None, :], 0.0)
    m2 = tl.sum(d * d, 0)
    if scratch_ptr is None:
        write_three(partials_ptr, tile, group, groups, n, there, CHANNELS, pixels, mean, m2)
    else:
        write_three(scratch_ptr, tile, group, groups, n, there, CHANNELS, pixels, mean, m2)
        part = tile // each
        first = part * each
        members = tl.minimum(each, tiles - first)
        counters_ptr += (strip * groups + group) * tl.cdiv(tiles, each) + part
        tl.debug_barrier()  # all of this program's stores come before its ticket
        ticket = tl.atomic_add(counters_ptr, 1, sem="acq_rel")
        if ticket == members - 1:
            scratch_ptr += first * (3 * plane)
            count, mean, m2 = combined(
                scratch_ptr, members * 3 * plane, group, groups, n, there, CHANNELS, BLOCK_TILES
            )
            write_three(partials_ptr, part, group, groups, n, there, CHANNELS, count, mean, m2)
            tl.store(counters_ptr, 0)
