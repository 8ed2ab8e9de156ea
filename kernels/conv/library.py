"""conv's three operations by torch's own convolutions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fastinfogan.kernels.activation import SLOPE, activate_, derived
from fastinfogan.kernels.channels_last import channels_last
from fastinfogan.kernels.conv.layout import bias_gradient, empty_weight


def padded(large: Tensor, stride: int) -> Tensor:
    """With stride 1, the map in its zeros: torch's own padding is symmetrical."""
    return large if stride == 2 else F.pad(large, (1, 2, 1, 2))


def conv_down(
    large: Tensor, weight: Tensor, bias: Tensor | None, stride: int, activation: int, slope: float
) -> Tensor:
    """The small map of a large one."""
    small = F.conv2d(padded(large, stride), weight, bias, stride, padding=stride - 1)
    return activate_(channels_last(small), activation, slope)


def conv_up(
    small: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    height: int,
    width: int,
    activation: int,
    slope: float,
) -> Tensor:
    """The large map, of this height and width, of a small one."""
    if stride == 1:  # "same" crops two after, padding=1 only one
        large = F.conv_transpose2d(small, weight, bias, padding=1)[..., :-1, :-1]
    else:
        odd = height % 2, width % 2  # the last row and column, which no patch may reach
        large = F.conv_transpose2d(small, weight, bias, stride, 1, odd)
    return activate_(channels_last(large), activation, slope)


def conv_weight(
    large: Tensor,
    small: Tensor,
    y: Tensor | None,
    slope: float,
    stride: int,
    dy_is_large: bool,
    with_bias: bool,
) -> tuple[Tensor, Tensor]:
    """The gradients of weight and bias; the latter is empty if it isn't wanted."""
    if y is not None:
        small = derived(small, y, SLOPE, slope)
    grad = torch.ops.aten.convolution_backward(
        small,
        padded(large, stride),
        empty_weight(large, small),
        None,
        (stride, stride),
        (stride - 1, stride - 1),
        (1, 1),  # dilation
        False,  # transposed
        (0, 0),  # padding of the output
        1,  # groups
        (False, True, False),  # of the three gradients, the weight's
    )[1]
    return channels_last(grad), bias_gradient(large if dy_is_large else small, with_bias)
