"""Which layers are small enough for linear's kernels, and what these write, empty."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

MOST_OUTPUTS = 128  # a program of the kernels holds a strip of all outputs
MOST_WEIGHTS = 1 << 16


def is_small(weight: Sequence[int]) -> bool:
    """Whether a layer with a weight of this shape is a kernel's work, not a library's.

    So are the heads of all presets; their hidden layers, with 131,072 weights and more, are not.
    """
    return weight[0] <= MOST_OUTPUTS and weight[0] * weight[1] <= MOST_WEIGHTS


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
