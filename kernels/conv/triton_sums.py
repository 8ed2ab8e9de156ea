"""What conv's Triton kernels find for a batchnorm: the sums that its own pass would gather.

A program has a tile of the map, and in registers. Of its pixels, as rounded, it writes three
numbers of every channel, as ``bn_act`` has them: count, mean and M2 for a batchnorm behind the map;
or, where the map is the gradient of what a batchnorm made, count and the two sums of its backward
pass. Where there are many tiles, the last program of each few, by a counter in memory, joins theirs
in their order: results are the same bits every time.
"""

from __future__ import annotations

from fastinfogan.kernels.bn_act.triton_tiles import combined, summed, write_three
from fastinfogan.kernels.triton_module import jit, tl


@jit
def forward_sums(
    y,  # (pixels, channels), rounded
    inside,  # (pixels,): which there are
    pixels,
):
    """Mean and M2 of a tile's channels."""
    y = tl.where(inside[:, None], y.to(tl.float32), 0.0)
    mean = tl.sum(y, 0) * (1.0 / pixels.to(tl.float32))
    d = tl.where(inside[:, None], y - mean[None, :], 0.0)
    return mean, tl.sum(d * d, 0)


@jit
def write_sums(
    first,  # (channels,): of a tile, behind their count
    second,  # (channels,)
    pixels,
    n,  # (channels,): their numbers
    there,  # (channels,)
    tile,  # of the group
    group,
    strip,  # of the channels
    partials_ptr,  # (parts, 3, groups, channels) float32
    scratch_ptr,  # (tiles, 3, groups, channels) float32; None: every tile is a part
    counters_ptr,  # (strips, groups, parts) int32: 0 between launches; or None
    tiles,  # of a group
    each,  # tiles of a part
    plane,  # groups * channels
    CHANNELS: tl.constexpr,
    BLOCK_TILES: tl.constexpr,
    FORWARD: tl.constexpr,
):
    groups = plane // CHANNELS
    if scratch_ptr is None:
        write_three(partials_ptr, tile, group, groups, n, there, CHANNELS, pixels, first, second)
    else:
        write_three(scratch_ptr, tile, group, groups, n, there, CHANNELS, pixels, first, second)
        part = tile // each
        begin = part * each
        members = tl.minimum(each, tiles - begin)
        counters_ptr += (strip * groups + group) * tl.cdiv(tiles, each) + part
        tl.debug_barrier()  # all of this program's stores come before its ticket
        ticket = tl.atomic_add(counters_ptr, 1, sem="acq_rel")
        if ticket == members - 1:
            scratch_ptr += begin * (3 * plane)
            size = members * 3 * plane
            if FORWARD:
                count, a, b = combined(
                    scratch_ptr, size, group, groups, n, there, CHANNELS, BLOCK_TILES
                )
            else:
                count, a, b = summed(
                    scratch_ptr, size, group, groups, n, there, CHANNELS, BLOCK_TILES
                )
            write_three(partials_ptr, part, group, groups, n, there, CHANNELS, count, a, b)
            tl.store(counters_ptr, 0)
