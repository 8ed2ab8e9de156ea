"""bn_act on a GPU: the launchers of ``triton_sums.py`` and ``triton_apply.py``."""

from __future__ import annotations

import functools

import torch
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
from fastinfogan.kernels.triton_module import launch, power_of_two

_TILE = 2048  # numbers, 16 in each of 128 threads: two loads in flight of a half-precision tensor
# Left alone, ptxas aims at 72 registers and spills; with leave to take 128 it stays below.
_COMPILED = {"num_warps": 4, "maxnreg": 128}


# Channels whose sums a program gathers: a sector of memory in half precision.
_STRIP = 16
_SUMS = {"BLOCK_CHANNELS": _STRIP, "BLOCK_PARTS": 64, **_COMPILED}


def parts_of(rows: int, channels: int) -> int:
    """The parts that the rows of a group are cut into.

    By the group's shape alone: results don't depend on what else is in the batch.
    """
    return max(1, min(128, 512 // _strips(channels), -(-rows * _STRIP // _TILE)))


def _strips(channels: int) -> int:
    return -(-channels // _STRIP)


def _apply_constants(channels: int) -> dict[str, int]:
    block_channels = max(16, min(64, power_of_two(channels)))
    return {"BLOCK_ROWS": _TILE // block_channels, "BLOCK_CHANNELS": block_channels, **_COMPILED}


def _apply_grid(x: Tensor, groups: int) -> tuple[int, int, int]:
    rows, channels = sizes_of(x, groups)
    blocks = _apply_constants(channels)
    return -(-channels // blocks["BLOCK_CHANNELS"]), -(-rows // blocks["BLOCK_ROWS"]), groups


@functools.cache  # for good: a CUDA graph has the address
def _counters_on_device(count: int, device: torch.device, stream: int) -> Tensor:
    """Zeros between launches. Launches of one stream share them; streams do not."""
    with torch.inference_mode(False):
        return torch.zeros(count, dtype=torch.int32, device=device)


def _counters(x: Tensor, groups: int) -> Tensor:
    stream = torch.cuda.current_stream(x.device).cuda_stream if x.is_cuda else 0
    return _counters_on_device(groups * _strips(x.shape[1]), x.device, stream)


def _gather_forward(x: Tensor, stats: Tensor | None, groups: int, eps: float) -> Tensor:
    """The sums of the forward pass, (1, 3, groups, channels), and statistics if asked for."""
    rows, channels = sizes_of(x, groups)
    parts = parts_of(rows, channels)
    merged = empty_partials(x, groups, 1)
    launch(
        bn_act_partials_kernel,
        (_strips(channels), parts, groups),
        x,
        empty_partials(x, groups, parts),
        _counters(x, groups),
        merged,
        stats,
        rows,
        -(-rows // parts),
        channels,
        groups,
        eps,
        BLOCK_ROWS=_TILE // _STRIP,
        **_SUMS,
    )
    return merged


def bn_act_partials(x: Tensor, groups: int) -> Tensor:
    """The sums of the forward pass, merged: (1, 3, groups, channels)."""
    return _gather_forward(x, None, groups, 0.0)


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
    merged = None
    if training and partials is None:
        merged = _gather_forward(x, stats, groups, eps)
    elif training:
        merged = empty_partials(x, groups, 1)
        launch(
            bn_act_merge_kernel,
            (_strips(channels), groups),
            partials,
            merged,
            stats,
            partials.shape[0],
            channels,
            groups,
            eps,
            **_SUMS,
        )
    launch(
        bn_act_forward_kernel,
        _apply_grid(x, groups),
        x,
        y,
        weight,
        bias,
        running_mean,
        running_var,
        merged,
        stats,
        rows,
        channels,
        groups,
        slope,
        momentum,
        eps,
        **_apply_constants(channels),
    )
    return y, stats


def bn_act_backward_partials(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, stats: Tensor, slope: float, groups: int
) -> Tensor:
    """The sums of the backward pass, merged: (1, 3, groups, channels)."""
    rows, channels = sizes_of(x, groups)
    parts = parts_of(rows, channels)
    merged = empty_partials(x, groups, 1)
    launch(
        bn_act_backward_partials_kernel,
        (_strips(channels), parts, groups),
        dy,
        x,
        weight,
        bias,
        stats,
        empty_partials(x, groups, parts),
        _counters(x, groups),
        merged,
        rows,
        -(-rows // parts),
        channels,
        groups,
        slope,
        BLOCK_ROWS=_TILE // _STRIP,
        **_SUMS,
    )
    return merged


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
    rows, channels = sizes_of(x, groups)
    dx, dweight, dbias = empty_gradients(x, weight, bias)
    launch(
        bn_act_backward_kernel,
        _apply_grid(x, groups),
        dy,
        x,
        dx,
        weight,
        bias,
        stats,
        own,
        own if partials is None else partials.sum(0),
        dweight,
        dbias,
        rows,
        channels,
        groups,
        slope,
        TRAINING=training,
        **_apply_constants(channels),
    )
    return dx, dweight, dbias
