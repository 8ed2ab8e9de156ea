"""bn_act on the CPU: the launchers of ``native/bn_act.cpp``."""

from __future__ import annotations

import torch
from torch import Tensor

from fastinfogan.kernels.dispatch import NATIVE, NATIVE_DTYPES, accumulator, address


def _sizes(x: Tensor, groups: int) -> tuple[int, int, int]:
    """Rows of a group, channels, and the parts that the rows are cut into.

    How many parts is a function of the group's shape alone: results don't depend on the number of
    threads, nor on what else is in the batch.
    """
    channels = x.shape[1]
    rows = x.numel() // channels // groups
    # An even number, of at least a tile of rows and 16 K numbers each.
    return rows, channels, max(1, min(64, 2 * (rows // 128), 2 * (rows * channels // 32768)))


def empty_partials(x: Tensor, groups: int) -> Tensor:
    """(parts, 3, groups, channels), float32, or float64 if x is."""
    _, channels, parts = _sizes(x, groups)
    return x.new_empty((parts, 3, groups, channels), dtype=accumulator(x.dtype))


def bn_act_partials(x: Tensor, groups: int) -> Tensor:
    """The sums of the forward pass."""
    rows, channels, parts = _sizes(x, groups)
    partials = empty_partials(x, groups)
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
    rows, channels, parts = _sizes(x, groups)
    y = torch.empty_like(x)
    stats = weight.new_empty((2, groups, channels))
    NATIVE.bn_act_forward(
        NATIVE_DTYPES[x.dtype],
        rows,
        channels,
        groups,
        x.data_ptr(),
        parts,
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
    rows, channels, parts = _sizes(x, groups)
    partials = empty_partials(x, groups)
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
    rows, channels, parts = _sizes(x, groups)
    dx, dweight, dbias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)
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
        parts,
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
