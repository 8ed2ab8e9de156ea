"""Which layers are linear_bn_act's own work, and what it writes, empty."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastinfogan.kernels.bn_act.layout import empty_results

MOST_ROWS = 128  # of a group: a program has them all
FEW_OUTPUTS = 128  # whose gradient every program of a strip of inputs finds by itself
STRIP, MOST_PIXELS = 64, 64  # inputs of a program that gathers a batchnorm's sums; its parts
HALF = (torch.bfloat16, torch.float16)  # float32's products are the library's


Results = tuple[Tensor, Tensor, Tensor]  # y, z, statistics
Gradients = tuple[Tensor, Tensor, Tensor, Tensor]  # of x, weight, scale, shift


def empty_forward(x: Tensor, weight: Tensor, groups: int, keeps: bool) -> Results:
    """Room for y, for z if it is kept, and for (mean, 1 / sigma): (2, groups, outputs)."""
    y, stats = empty_results(x.new_empty((x.shape[0], weight.shape[0])), groups)
    return y, torch.empty_like(y) if keeps else y.new_empty((0,)), stats


def empty_backward(
    x: Tensor | None, weight: Tensor, scale: Tensor, dy: Tensor, wants_x: bool
) -> Gradients:
    """Room for the gradients; empty are that of x if nobody wants it, the others without x."""
    none = 0 if x is None else 1
    return (
        dy.new_empty((dy.shape[0] if wants_x else 0, weight.shape[1])),
        weight.new_empty((none * weight.shape[0], weight.shape[1])),
        *(scale.new_empty((none * weight.shape[0],)) for _ in range(2)),
    )


def gathers(maps: Sequence[int]) -> bool:
    """Whether sums come with the gradient of maps (B, C, H, W): a strip lies in one pixel."""
    return maps[1] % STRIP == 0 and maps[2] * maps[3] <= MOST_PIXELS
