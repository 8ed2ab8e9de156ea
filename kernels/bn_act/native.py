"""bn_act on the CPU: the launchers of ``native/bn_act.cpp``."""

from __future__ import annotations

from torch import Tensor

from fastinfogan.kernels.bn_act.layout import (
    empty_gradients,
    empty_partials,
    empty_results,
    sizes_of,
)
from fastinfogan.kernels.dispatch import NATIVE, NATIVE_DTYPES, address


def parts_of(rows: int, channels: int) -> int:
    """The parts that the rows of a group are cut into.

    By the group's shape alone: results don't depend on the number of threads, nor on what else is
    in the batch.
    """
    # An even number, of at least a tile of rows and 16 K numbers each.
    return max(1, min(64, 2 * (rows // 128), 2 * (rows * channels // 32768)))


def bn_act_partials(x: Tensor, groups: int) -> Tensor:
    """The sums of the forward pass."""
    rows, channels = sizes_of(x, groups)
    parts = parts_of(rows, channels)
    partials = empty_partials(x, groups, parts)
    NATIVE.bn_act_partials(
        NATIVE_DTYPES[x.dtype],
        rows,
        channels,
        groups,
        x.data_ptr(),
        partials.data_ptr(),
        parts,
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
    rows, channels = sizes_of(x, groups)
    y, stats = empty_results(x, groups)
    NATIVE.bn_act_forward(
        NATIVE_DTYPES[x.dtype],
        rows,
        channels,
        groups,
        x.data_ptr(),
        parts_of(rows, channels),
        address(partials),
        0 if partials is None else partials.shape[0],
        weight.data_ptr(),
        bias.data_ptr(),
        address(running_mean),
        address(running_var),
        y.data_ptr(),
        stats.data_ptr(),
        slope,
        momentum,
        eps,
        training,
    )
    return y, stats


def bn_act_backward_partials(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, stats: Tensor, slope: float, groups: int
) -> Tensor:
    """The sums of the backward pass."""
    rows, channels = sizes_of(x, groups)
    parts = parts_of(rows, channels)
    partials = empty_partials(x, groups, parts)
    NATIVE.bn_act_backward_partials(
        NATIVE_DTYPES[x.dtype],
        rows,
        channels,
        groups,
        dy.data_ptr(),
        x.data_ptr(),
        weight.data_ptr(),
        bias.data_ptr(),
        stats.data_ptr(),
        partials.data_ptr(),
        parts,
        slope,
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
    rows, channels = sizes_of(x, groups)
    dx, dweight, dbias = empty_gradients(x, weight, bias)
    NATIVE.bn_act_backward(
        NATIVE_DTYPES[x.dtype],
        rows,
        channels,
        groups,
        dy.data_ptr(),
        x.data_ptr(),
        weight.data_ptr(),
        bias.data_ptr(),
        stats.data_ptr(),
        parts_of(rows, channels),
        address(own),
        address(partials),
        0 if partials is None else partials.shape[0],
        dx.data_ptr(),
        dweight.data_ptr(),
        dbias.data_ptr(),
        slope,
        training,
    )
    return dx, dweight, dbias
