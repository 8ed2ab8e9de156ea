"""bn_act on a GPU: the launchers of its Triton kernels, and how many programs each gets."""

from __future__ import annotations

from torch import Tensor

from fastinfogan.kernels.bn_act.layout import (
    empty_gradients,
    empty_partials,
    empty_results,
    sizes_of,
)
from fastinfogan.kernels.bn_act.triton_apply import bn_act_backward_kernel, bn_act_forward_kernel
from fastinfogan.kernels.bn_act.triton_sums import (
    bn_act_backward_partials_kernel,
    bn_act_merge_kernel,
    bn_act_partials_kernel,
)
from fastinfogan.kernels.bn_act.triton_whole import (
    bn_act_whole_backward_kernel,
    bn_act_whole_forward_kernel,
)
from fastinfogan.kernels.triton_module import launch
from fastinfogan.kernels.triton_needs import power_of_two

# Up to so many rows a program has them all, in its registers.
_WHOLE_ROWS = 256
# Channels of a program that has all rows or gathers sums: a sector of memory in half precision.
_STRIP = 16
# Bytes that a thread loads at a time of all tensors, and of a program that has all rows.
_BYTES, _WHOLE_FORWARD, _WHOLE_BACKWARD = 64, 32, 64
# Programs that gather a group's sums, if each gets so many rows.
_SUMS_PROGRAMS, _PART_ROWS, _MOST_PARTS = 256, 384, 32
_SUMS_WARPS = 8
_APPLY_CHANNELS = 32
_APPLY_PROGRAMS = 528
_APPLY_WARPS = 4


def parts_of(rows: int, channels: int) -> tuple[int, int]:
    """The parts that the rows of a group are cut into, none of them empty, and the rows of each.

    By the group's shape alone: results don't depend on what else is in the batch.
    """
    if rows <= _WHOLE_ROWS:
        return 1, _up(rows)
    parts = min(_MOST_PARTS, _SUMS_PROGRAMS // _strips(channels), rows // _PART_ROWS)
    each = _up(-(-rows // max(1, parts)))
    return -(-rows // each), each


def _up(rows: int) -> int:
    """To a multiple of 16: Triton compiles other numbers apart."""
    return -(-rows // 16) * 16


def _strips(channels: int) -> int:
    return -(-channels // _STRIP)


def _strip_constants(rows: int, if_whole: int, *tensors: Tensor) -> dict[str, int]:
    """Of a program that has all rows of a group, if they are few, or gathers the sums of a part."""
    threads, each = 32 * _SUMS_WARPS, _each(_BYTES, tensors)
    if rows <= _WHOLE_ROWS:
        each = _each(if_whole, tensors)
        threads = max(128, power_of_two(rows) * _STRIP // each)
    return {
        "BLOCK_ROWS": threads * each // _STRIP,
        "BLOCK_CHANNELS": _STRIP,
        **_compiled(threads // 32),
    }


def _each(at_a_time: int, tensors: tuple[Tensor, ...]) -> int:
    """Numbers of each tensor that a thread loads at a time."""
    return at_a_time // sum(tensor.element_size() for tensor in tensors)


def _compiled(warps: int, registers: int = 128) -> dict[str, int]:
    # Left alone, ptxas aims at 72 registers and spills; with leave to take 128 it stays below. With
    # the sums of many tiles there are more.
    return {"num_warps": warps, "maxnreg": registers}


def _apply_geometry(
    groups: int, parts: int, *tensors: Tensor
) -> tuple[tuple[int, int, int], int, dict[str, int]]:
    """Grid, rows of a block, and constants; the first block is the one that applies nothing."""
    rows, channels = sizes_of(tensors[0], groups)
    block_rows = _each(_BYTES, tensors) * 32 * _APPLY_WARPS // _APPLY_CHANNELS
    strips = -(-channels // _APPLY_CHANNELS)
    tiles = -(-rows // block_rows)
    blocks = min(tiles, max(1, _APPLY_PROGRAMS // strips))
    rows_per_block = -(-tiles // blocks) * block_rows
    constants = {
        "BLOCK_ROWS": block_rows,
        "BLOCK_CHANNELS": _APPLY_CHANNELS,
        "BLOCK_PARTS": max(_MOST_PARTS, power_of_two(parts)),
        **_compiled(_APPLY_WARPS, 128 if parts <= 64 else 168),
    }
    return (strips, 1 + -(-rows // rows_per_block), groups), rows_per_block, constants


def _forward_sums(x: Tensor, groups: int) -> Tensor:
    """The sums of the forward pass, of each part: (parts, 3, groups, channels)."""
    rows, channels = sizes_of(x, groups)
    parts, rows_per_part = parts_of(rows, channels)
    partials = empty_partials(x, groups, parts)
    launch(
        bn_act_partials_kernel,
        (_strips(channels), parts, groups),
        x,
        partials,
        rows,
        rows_per_part,
        channels,
        groups,
        **_strip_constants(rows, _WHOLE_FORWARD, x),
    )
    return partials


def _merged(x: Tensor, groups: int, partials: Tensor, forward: bool) -> Tensor:
    """All parts as one, (1, 3, groups, channels)."""
    grid, _, constants = _apply_geometry(groups, len(partials), x)
    merged = empty_partials(x, groups, 1)
    del constants["BLOCK_ROWS"]
    launch(
        bn_act_merge_kernel,
        (grid[0], groups),
        partials,
        merged,
        partials.numel(),
        x.shape[1],
        groups,
        FORWARD=forward,
        **constants,
    )
    return merged


def bn_act_partials(x: Tensor, groups: int) -> Tensor:
    """The sums of the forward pass, merged: (1, 3, groups, channels)."""
    return _merged(x, groups, _forward_sums(x, groups), True)


def bn_act_forward(
    x: Tensor,
    partials: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    slope: float,
    groups: int,
    momentum: float,
    eps: float,
    training: bool,
) -> tuple[Tensor, Tensor]:
    """y, and (mean, 1 / sigma) per group and channel; gathers ``partials`` where they are None."""
    rows, channels = sizes_of(x, groups)
    y, stats = empty_results(x, groups)
    if not training or (partials is not None and len(partials) == 0):
        partials = None
    if training and partials is None and rows <= _WHOLE_ROWS:
        launch(
            bn_act_whole_forward_kernel,
            (_strips(channels),),
            x,
            y,
            weight,
            bias,
            running_mean,
            running_var,
            stats,
            rows,
            channels,
            groups,
            slope,
            momentum,
            eps,
            **_strip_constants(rows, _WHOLE_FORWARD, x),
        )
        return y, stats
    if training and partials is None:
        partials = _forward_sums(x, groups)
    parts = 0 if partials is None else len(partials)
    grid, rows_per_block, constants = _apply_geometry(groups, parts, x)
    launch(
        bn_act_forward_kernel,
        grid,
        x,
        y,
        weight,
        bias,
        running_mean,
        running_var,
        partials,
        stats,
        0 if partials is None else partials.numel(),
        rows,
        rows_per_block,
        channels,
        groups,
        slope,
        momentum,
        eps,
        **constants,
    )
    return y, stats


def _backward_sums(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, stats: Tensor, slope: float, groups: int
) -> Tensor:
    """The sums of the backward pass, of each part: (parts, 3, groups, channels)."""
    rows, channels = sizes_of(x, groups)
    parts, rows_per_part = parts_of(rows, channels)
    partials = empty_partials(x, groups, parts)
    launch(
        bn_act_backward_partials_kernel,
        (_strips(channels), parts, groups),
        dy,
        x,
        weight,
        bias,
        stats,
        partials,
        rows,
        rows_per_part,
        channels,
        groups,
        slope,
        **_strip_constants(rows, _WHOLE_BACKWARD, dy, x),
    )
    return partials


def bn_act_backward_partials(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, stats: Tensor, slope: float, groups: int
) -> Tensor:
    """The sums of the backward pass, merged: (1, 3, groups, channels)."""
    sums = _backward_sums(dy, x, weight, bias, stats, slope, groups)
    return _merged(x, groups, sums, False)


def bn_act_backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    stats: Tensor,
    own: Tensor | None,
    partials: Tensor | None,
    slope: float,
    groups: int,
    training: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """dx, dweight, dbias; ``own`` are this rank's sums (None: gathers them), ``partials`` all's."""
    rows, channels = sizes_of(x, groups)
    dx, dweight, dbias = empty_gradients(x, weight, bias)
    if own is not None and len(own) == 0:
        own = None
    if own is None and rows <= _WHOLE_ROWS:
        launch(
            bn_act_whole_backward_kernel,
            (_strips(channels),),
            dy,
            x,
            dx,
            weight,
            bias,
            stats,
            dweight,
            dbias,
            rows,
            channels,
            groups,
            slope,
            TRAINING=training,
            **_strip_constants(rows, _WHOLE_BACKWARD, dy, x),
        )
        return dx, dweight, dbias
    if own is None:
        own = _backward_sums(dy, x, weight, bias, stats, slope, groups)
    if partials is None:
        partials = own
    grid, rows_per_block, constants = _apply_geometry(groups, max(len(own), len(partials)), dy, x)
    launch(
        bn_act_backward_kernel,
        grid,
        dy,
        x,
        dx,
        weight,
        bias,
        stats,
        own,
        partials,
        dweight,
        dbias,
        own.numel(),
        partials.numel(),
        rows,
        rows_per_block,
        channels,
        groups,
        slope,
        TRAINING=training,
        **constants,
    )
    return dx, dweight, dbias
