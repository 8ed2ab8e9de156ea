"""bn_act on a GPU: the launchers of ``triton_kernels.py``."""

from __future__ import annotations

from torch import Tensor

from fastinfogan.kernels.bn_act.layout import (
    empty_gradients,
    empty_partials,
    empty_results,
    sizes_of,
)
from fastinfogan.kernels.bn_act.triton_kernels import (
    bn_act_backward_kernel,
    bn_act_backward_partials_kernel,
    bn_act_forward_kernel,
    bn_act_partials_kernel,
)
from fastinfogan.kernels.triton_module import launch, power_of_two

_BLOCK_PARTS = 8  # read at once; more of the 64 that a rank has at most make kernels spill


def _tile(channels: int) -> tuple[int, int]:
    """BLOCK_ROWS, BLOCK_CHANNELS: 1,024 numbers, 8 in each of 128 threads.

    (With 16 some kernels spill: the addresses alone are 64 bits each.)
    """
    block_channels = max(16, min(64, power_of_two(channels)))
    return 1024 // block_channels, block_channels


def _grid(by: int, channels: int, groups: int) -> tuple[int, int, int]:
    return -(-channels // _tile(channels)[1]), by, groups


def _tile_constants(channels: int) -> dict[str, int]:
    block_rows, block_channels = _tile(channels)
    # Left alone, ptxas aims at 72 registers and spills; with leave to take 128 it stays below.
    compiled = {"num_warps": 4, "maxnreg": 128}
    return {"BLOCK_ROWS": block_rows, "BLOCK_CHANNELS": block_channels, **compiled}


def parts_of(rows: int, channels: int) -> int:
    """The parts that the rows of a group are cut into.

    By the group's shape alone: results don't depend on what else is in the batch.
    """
    block_rows, block_channels = _tile(channels)
    across = -(-channels // block_channels)
    return max(1, min(64, 512 // across, -(-rows // block_rows)))


def bn_act_partials(x: Tensor, groups: int) -> Tensor:
    """The sums of the forward pass."""
    rows, channels = sizes_of(x, groups)
    parts = parts_of(rows, channels)
    partials = empty_partials(x, groups, parts)
    launch(
        bn_act_partials_kernel,
        _grid(parts, channels, groups),
        x,
        partials,
        rows,
        -(-rows // parts),
        channels,
        groups,
        **_tile_constants(channels),
    )
    return partials


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
    if training and partials is None:
        partials = bn_act_partials(x, groups)
    rows, channels = sizes_of(x, groups)
    y, stats = empty_results(x, groups)
    launch(
        bn_act_forward_kernel,
        _grid(-(-rows // _tile(channels)[0]), channels, groups),
        x,
        y,
        partials,
        weight,
        bias,
        running_mean,
        running_var,
        stats,
        0 if partials is None else partials.shape[0],
        rows,
        channels,
        groups,
        slope,
        momentum,
        eps,
        TRAINING=training,
        UPDATE=training and running_mean is not None,
        BLOCK_PARTS=_BLOCK_PARTS,
        **_tile_constants(channels),
    )
    return y, stats


def bn_act_backward_partials(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, stats: Tensor, slope: float, groups: int
) -> Tensor:
    """The sums of the backward pass."""
    rows, channels = sizes_of(x, groups)
    parts = parts_of(rows, channels)
    partials = empty_partials(x, groups, parts)
    launch(
        bn_act_backward_partials_kernel,
        _grid(parts, channels, groups),
        dy,
        x,
        weight,
        bias,
        stats,
        partials,
        rows,
        -(-rows // parts),
        channels,
        groups,
        slope,
        **_tile_constants(channels),
    )
    return partials


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
    if own is None:
        own = bn_act_backward_partials(dy, x, weight, bias, stats, slope, groups)
    if partials is None:
        partials = own
    rows, channels = sizes_of(x, groups)
    dx, dweight, dbias = empty_gradients(x, weight, bias)
    launch(
        bn_act_backward_kernel,
        _grid(-(-rows // _tile(channels)[0]), channels, groups),
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
        own.shape[0],
        partials.shape[0],
        rows,
        channels,
        groups,
        slope,
        TRAINING=training,
        BLOCK_PARTS=_BLOCK_PARTS,
        **_tile_constants(channels),
    )
    return dx, dweight, dbias
