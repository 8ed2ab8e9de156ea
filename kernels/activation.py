"""What may follow a linear map: in place, and its derivative from the result alone."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Activation = float | Literal["sigmoid", "tanh"]  # a float is the slope below zero

# As the ops and kernels number them; native/dense.cpp lacks the last one.
LINEAR, SLOPE, SIGMOID, TANH = range(4)
NAMED = {"sigmoid": SIGMOID, "tanh": TANH}


def numbered(activation: Activation) -> tuple[int, float]:
    """The number of an activation, and its slope, which is 1 if it has none."""
    if isinstance(activation, str):
        return NAMED[activation], 1.0
    return (LINEAR if activation == 1.0 else SLOPE), float(activation)


def activate_(y: Tensor, kind: int, slope: float) -> Tensor:
    """What follows a linear map, in its output: no gradient asks for that again."""
    if kind == SLOPE:
        return F.leaky_relu_(y, slope)
    if kind == SIGMOID:
        return torch.sigmoid_(y)
    return torch.tanh_(y) if kind == TANH else y


def derived(dy: Tensor, y: Tensor, kind: int, slope: float) -> Tensor:
    """The gradient before the activation, from that behind it and the result."""
    if kind == SLOPE:
        return torch.ops.aten.leaky_relu_backward(dy, y, slope, True)
    if kind == SIGMOID:
        return torch.ops.aten.sigmoid_backward(dy, y)
    return torch.ops.aten.tanh_backward(dy, y) if kind == TANH else dy
