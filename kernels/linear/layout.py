"""Which layers are the work of linear's kernels, and what these write, empty."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastinfogan.kernels.bn_act.layout import empty_partials

MOST_OUTPUTS = 128  # a program of the kernels holds a strip of all outputs
MOST_WEIGHTS = 1 << 16
MOST_INPUTS = 256  # of a layer whose rows a library can't read in whole vectors
VECTOR = 8  # numbers of half precision in 16 bytes


def is_small(weight: Sequence[int]) -> bool:
    """Whether a layer with a weight of this shape is a kernel's work, not a library's.

    So are the heads of all presets; their hidden layers, with 131,072 weights and more, are not.
    """
    return weight[0] <= MOST_OUTPUTS and weight[0] * weight[1] <= MOST_WEIGHTS


def is_odd(weight: Sequence[int]) -> bool:
    """Whether a layer has few inputs, and not by the vector: G's first one, of noise and codes.

    Rows of 74 numbers aren't aligned as a library's fast kernels need them.
    """
    return weight[1] <= MOST_INPUTS and weight[1] % VECTOR != 0


Gradients = tuple[Tensor, Tensor, Tensor]  # dx, dweight, dbias; the latter two may be empty


def empty_gradients(
    dy: Tensor, x: Tensor | None, weight: Tensor, dtail: Tensor | None
) -> Gradients:
    """Room for the results of the registered op, from its arguments."""
    outputs, inputs = weight.shape
    dx = dy.new_empty((dy.shape[0], inputs))
    if x is None:
        return dx, dy.new_empty((0,)), dy.new_empty((0,))
    return dx, dy.new_empty((outputs, inputs)), dy.new_empty((outputs,))


def empty_weight(dy: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Room for the gradients of weight and bias."""
    outputs = dy.shape[1]
    return dy.new_empty((outputs, x.shape[1])), dy.new_empty((outputs,))


def block_of(rows: int, learning: bool) -> int:
    """Rows of a group that a program of a single output has at a time, where it finds sums."""
    return min(rows, 128 if learning else 64)


def gathers(maps: Sequence[int], outputs: int, groups: int) -> bool:
    """Whether sums come with the gradient of maps (B, C, H, W): blocks and strips fit in whole."""
    rows = maps[0] // groups
    fits = maps[1] % 32 == 0 and rows % 16 == 0 and rows & (rows - 1) == 0
    return outputs == 1 and fits and maps[2] * maps[3] * max(1, rows // 64) <= 64


def empty_back(
    dy: Tensor,
    x: Tensor | None,
    weight: Tensor,
    dtail: Tensor | None,
    maps: Tensor,
    groups: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradient of the maps, of weight and bias, and a batchnorm's sums."""
    _, dweight, dbias = empty_gradients(dy, x, weight, dtail)
    rows = len(dy) // groups
    parts = maps.shape[2] * maps.shape[3] * (rows // block_of(rows, x is not None))
    return torch.empty_like(maps), dweight, dbias, empty_partials(maps, groups, parts)
