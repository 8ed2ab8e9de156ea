"""linear_bn_act on a GPU: the launchers of its Triton kernels, and how they cut their work."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fastinfogan.kernels.bn_act.layout import empty_partials
from fastinfogan.kernels.bn_act.triton import bn_act_backward, bn_act_forward
from fastinfogan.kernels.channels_last import in_rows
from fastinfogan.kernels.dispatch import multiplies
from fastinfogan.kernels.linear_bn_act.layout import (
    FEW_OUTPUTS,
    Gradients,
    Results,
    empty_backward,
    empty_forward,
)
from fastinfogan.kernels.linear_bn_act.triton_back import input_gradient
from fastinfogan.kernels.linear_bn_act.triton_backward import (
    linear_bn_act_backward_kernel,
    linear_bn_act_weight_kernel,
)
from fastinfogan.kernels.linear_bn_act.triton_forward import (
    linear_bn_act_forward_kernel,
    linear_bn_act_sum_kernel,
)
from fastinfogan.kernels.linear_bn_act.triton_parts import (
    MOST_INPUTS,
    PROGRAMS,
    input_of,
    parts_of,
)
from fastinfogan.kernels.triton_module import launch
from fastinfogan.kernels.triton_needs import power_of_two

_SUM_OUTPUTS = 16  # of a program that adds up: a sector of memory, twice


def forward_blocks_of(
    rows: int, inputs: int, outputs: int, groups: int, half: bool
) -> dict[str, int]:
    """The widest strip that makes programs enough: each loads all of x.

    Twice as much of it at a time where a strip is narrow. (Wider ones, and those of float32, spill
    registers.)
    """
    wide = next((w for w in (64, 32) if outputs >= w * PROGRAMS), 16)
    narrow = wide == 16 and inputs > 64 and (half or inputs % 16 != 0)
    return {
        "GROUPS": groups,
        "BLOCK_ROWS": max(16, power_of_two(rows)),
        "BLOCK_OUTPUTS": wide,
        "BLOCK_INPUTS": 128 if narrow else 64,
        "num_warps": 4 if narrow and inputs % 16 == 0 else 8,
        "num_stages": 3 if groups == 1 else 2,
    }


def linear_bn_act_forward(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    slope: float,
    groups: int,
    momentum: float,
    eps: float,
    keeps: bool,
) -> Results:
    """y, z unless nobody keeps it, and (mean, 1 / sigma) per group and output."""
    if not multiplies(x.device):
        z = F.linear(x, weight)
        statistics = running_mean, running_var
        y, stats = bn_act_forward(
            z, None, scale, shift, *statistics, slope, groups, momentum, eps, True
        )
        return y, z if keeps else z.new_empty((0,)), stats
    y, z, stats = results = empty_forward(x, weight, groups, keeps)
    (outputs, inputs), rows = weight.shape, x.shape[0] // groups
    if running_mean is None:
        running_mean = running_var = stats  # for their address; what is there stays
        momentum = 0.0
    behind = scale, shift, running_mean, running_var, y, z, stats
    kept = rows if keeps else 0
    if inputs > MOST_INPUTS:
        parts = parts_of(x, weight)
        launch(
            linear_bn_act_sum_kernel,
            (-(-outputs // _SUM_OUTPUTS),),
            parts,
            *behind,
            rows,
            kept,
            outputs,
            slope,
            momentum,
            eps,
            PARTS=len(parts),
            GROUPS=groups,
            BLOCK_ROWS=max(16, power_of_two(rows)),
            BLOCK_OUTPUTS=_SUM_OUTPUTS,
            num_warps=8,
        )
        return results
    blocks = forward_blocks_of(rows, inputs, outputs, groups, x.element_size() == 2)
    launch(
        linear_bn_act_forward_kernel,
        (-(-outputs // blocks["BLOCK_OUTPUTS"]),),
        x,
        weight,
        *behind,
        rows,
        kept,
        inputs,
        outputs,
        slope,
        momentum,
        eps,
        **blocks,
    )
    return results


def linear_bn_act_backward(
    dy: Tensor,
    x: Tensor | None,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    z: Tensor,
    stats: Tensor,
    slope: float,
    groups: int,
    wants_x: bool,
) -> Gradients:
    """dx, if wanted; and those of the parameters, if there is an x."""
    if wants_x and groups == 1 and weight.shape[0] <= FEW_OUTPUTS and multiplies(dy.device):
        gradients = empty_backward(x, weight, scale, dy, wants_x)
        _everything(gradients, dy, x, weight, scale, shift, z, stats, slope)
        return gradients
    dz, *found = _product_and_parameters(
        dy, x, weight, scale, shift, z, stats, slope, groups, wants_x
    )
    return input_of(dz, weight) if wants_x else dy.new_empty((0, weight.shape[1])), *found


def linear_bn_act_back(
    dy: Tensor,
    x: Tensor | None,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    z: Tensor,
    stats: Tensor,
    slope: float,
    groups: int,
    maps: Tensor,
    maps_scale: Tensor,
    maps_shift: Tensor,
    maps_stats: Tensor,
    maps_slope: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradient of what a batchnorm made of the maps, those of the parameters, and the sums."""
    dz, *found = _product_and_parameters(dy, x, weight, scale, shift, z, stats, slope, groups, True)
    normalised = maps, maps_scale, maps_shift, maps_stats, maps_slope
    if not multiplies(dy.device):
        dx = torch.empty_like(maps)
        torch.mm(dz, weight, out=in_rows(dx))
        return dx, *found, empty_partials(maps, groups, 0)
    dx, sums = input_gradient(dz, weight, *normalised, groups)
    return dx, *found, sums


def _product_and_parameters(
    dy: Tensor,
    x: Tensor | None,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    z: Tensor,
    stats: Tensor,
    slope: float,
    groups: int,
    wants_x: bool,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
    """The product's gradient, which may be None if nobody wants it, and those of the parameters."""
    if x is not None and x.shape[1] <= MOST_INPUTS and multiplies(dy.device):
        gradients = empty_backward(x, weight, scale, dy, False)[1:]
        dz = torch.empty_like(z) if wants_x else None
        _of_weight(gradients, dz, dy, x, scale, shift, z, stats, slope, groups)
        return dz, *gradients
    dz, *found = bn_act_backward(dy, z, scale, shift, stats, None, None, slope, groups, True)
    if x is None:
        return dz, *empty_backward(x, weight, scale, dy, False)[1:]
    return dz, torch.mm(dz.t(), x), *found


def backward_blocks_of(rows: int, inputs: int) -> dict[str, int]:
    """Narrow strips where programs are few."""
    return {
        "BLOCK_ROWS": max(16, power_of_two(rows)),
        "BLOCK_OUTPUTS": 64,
        "BLOCK_INPUTS": 32 if inputs >= 32 * PROGRAMS else 16,
        "num_warps": 8,
    }


def _everything(
    gradients: Gradients,
    dy: Tensor,
    x: Tensor | None,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    z: Tensor,
    stats: Tensor,
    slope: float,
) -> None:
    """All gradients of a layer with few outputs, or that of x alone, in one launch."""
    dx, dweight, dscale, dshift = gradients
    (rows, inputs), outputs = dx.shape, weight.shape[0]
    blocks = backward_blocks_of(rows, inputs)
    launch(
        linear_bn_act_backward_kernel,
        (-(-inputs // blocks["BLOCK_INPUTS"]),),
        dx,
        None if x is None else dweight,
        dscale,
        dshift,
        dy,
        x,
        weight,
        z,
        scale,
        shift,
        stats,
        rows,
        inputs,
        outputs,
        slope,
        **blocks,
    )


def weight_blocks_of(
    rows: int, inputs: int, outputs: int, groups: int
) -> tuple[int, dict[str, int]]:
    """Inputs of a program, in whole blocks, and constants.

    Rows that aren't aligned are loaded number by number, which large tiles have too many of.
    """
    aligned = inputs % 16 == 0
    wide = 64 if aligned and outputs >= 64 * PROGRAMS else 16
    block = min(128 if aligned else 64, max(16, power_of_two(inputs)))
    parts = max(1, 2 * PROGRAMS // -(-outputs // wide))
    each = -(-inputs // (parts * block)) * block
    return each, {
        "GROUPS": groups,
        "BLOCK_ROWS": max(16, power_of_two(rows)),
        "BLOCK_OUTPUTS": wide,
        "BLOCK_INPUTS": block,
        "num_warps": 8 if aligned else 4,
        "num_stages": 3 - groups,
    }


def _of_weight(
    gradients: tuple[Tensor, Tensor, Tensor],
    dz: Tensor | None,
    dy: Tensor,
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    z: Tensor,
    stats: Tensor,
    slope: float,
    groups: int,
) -> None:
    """The parameters' gradients, and dz if there is room for it, in one launch."""
    dweight, dscale, dshift = gradients
    (outputs, inputs), rows = dweight.shape, x.shape[0] // groups
    each, blocks = weight_blocks_of(rows, inputs, outputs, groups)
    launch(
        linear_bn_act_weight_kernel,
        (-(-outputs // blocks["BLOCK_OUTPUTS"]), -(-inputs // each)),
        dweight,
        dz,
        dscale,
        dshift,
        dy,
        x,
        z,
        scale,
        shift,
        stats,
        rows,
        inputs,
        outputs,
        each,
        slope,
        **blocks,
    )
