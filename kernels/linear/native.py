"""linear on the CPU: the launchers of ``native/linear.cpp``."""

from __future__ import annotations

import torch
from torch import Tensor

from fastinfogan.kernels.dispatch import NATIVE, NATIVE_DTYPES, address
from fastinfogan.kernels.linear.layout import empty_weight

DTYPES = (torch.float32, torch.float64)


def linear_forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """y."""
    y = x.new_empty((x.shape[0], weight.shape[0]))
    NATIVE.linear_forward(
        NATIVE_DTYPES[x.dtype],
        *x.shape,
        weight.shape[0],
        x.data_ptr(),
        weight.data_ptr(),
        address(bias),
        y.data_ptr(),
    )
    return y


def linear_input(dy: Tensor, weight: Tensor) -> Tensor:
    """dx."""
    outputs, inputs = weight.shape
    dx = dy.new_empty((dy.shape[0], inputs))
    NATIVE.linear_backward(
        NATIVE_DTYPES[dy.dtype],
        dy.shape[0],
        inputs,
        outputs,
        dy.data_ptr(),
        weight.data_ptr(),
        dx.data_ptr(),
    )
    return dx


def linear_weight(dy: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of weight and bias."""
    dweight, _ = empty_weight(dy, x)
    NATIVE.linear_weight(
        NATIVE_DTYPES[x.dtype],
        *x.shape,
        dy.shape[1],
        dy.data_ptr(),
        x.data_ptr(),
        dweight.data_ptr(),
    )
    return dweight, dy.sum(0)
