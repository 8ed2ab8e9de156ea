"""Which layers are the work of linear's kernels, and what these write, empty."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

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
