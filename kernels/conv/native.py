"""conv on the CPU: the launchers of ``native/conv_*.cpp``, and of ``winograd_*.cpp`` by the rule.

Sums are in float32 (float64 of float64); bias and slope are applied before the one rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fastinfogan.kernels.activation import SLOPE, activate_, derived
from fastinfogan.kernels.channels_last import channels_last
from fastinfogan.kernels.conv.layout import (
    IMAGE_CHANNELS,
    bias_gradient,
    empty_bias,
    empty_large,
    empty_small,
    empty_weight,
)
from fastinfogan.kernels.conv.rule import winograd_is_faster
from fastinfogan.kernels.dispatch import NATIVE, NATIVE_DTYPES, address

# Half precision is made of the processor's own products, or the library's.
HALF = NATIVE is not None and NATIVE.HALF_PRODUCTS
DTYPES = (torch.float32, torch.float64, *([torch.bfloat16] if HALF else []))


def conv_down(
    large: Tensor, weight: Tensor, bias: Tensor | None, stride: int, activation: int, slope: float
) -> Tensor:
    """The small map of a large one."""
    small = empty_small(large, weight, stride)
    bias = None if bias is None else bias.contiguous()
    _down(large, weight, bias, stride, None, small, slope)
    return small if activation == SLOPE else activate_(small, activation, slope)


def conv_down_derived(
    large: Tensor, weight: Tensor, stride: int, x: Tensor, slope: float
) -> Tensor:
    """The same without bias, as the gradient of what a slope made x of, which is like it."""
    small = empty_small(large, weight, stride)
    _down(large, weight, None, stride, x, small, slope)
    return small


def _down(
    large: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    x: Tensor | None,
    small: Tensor,
    slope: float,
) -> None:
    _kernel("down", large, small, stride)(
        *_shape(large, small, stride),
        large.data_ptr(),
        weight.data_ptr(),
        address(bias),
        address(x),
        small.data_ptr(),
        slope,
    )


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
    large = empty_large(small, weight, height, width)
    bias = None if bias is None else bias.contiguous()
    what = *_shape(large, small, stride), small.data_ptr(), weight.data_ptr(), address(bias)
    if large.shape[1] <= IMAGE_CHANNELS:
        NATIVE.conv_up_image(*what, large.data_ptr())
        return activate_(large, activation, slope)
    _kernel("up", large, small, stride)(*what, 0, large.data_ptr(), slope)
    return large if activation == SLOPE else activate_(large, activation, slope)


def conv_up_derived(small: Tensor, weight: Tensor, stride: int, x: Tensor, slope: float) -> Tensor:
    """The same without bias, as the gradient of what a slope made x of, which is like it."""
    large = empty_large(small, weight, *x.shape[2:])
    what = *_shape(large, small, stride), small.data_ptr(), weight.data_ptr(), 0
    if large.shape[1] <= IMAGE_CHANNELS:
        NATIVE.conv_up_image(*what, large.data_ptr())
        return channels_last(derived(large, x, SLOPE, slope))
    _kernel("up", large, small, stride)(*what, x.data_ptr(), large.data_ptr(), slope)
    return large


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
    weight = empty_weight(large, small)
    shape = _shape(large, small, stride)
    if large.shape[1] <= IMAGE_CHANNELS:
        bias = empty_bias(small, with_bias and not dy_is_large)
        NATIVE.conv_weight_image(
            *shape,
            large.data_ptr(),
            small.data_ptr(),
            address(y),
            weight.data_ptr(),
            bias.data_ptr() if bias.numel() else 0,
            slope,
        )
        return weight, bias_gradient(large, with_bias) if dy_is_large else bias
    if y is not None:
        small = derived(small, y, SLOPE, slope)
    run = _kernel("weight", large, small, stride)
    run(*shape, large.data_ptr(), small.data_ptr(), weight.data_ptr())
    return weight, bias_gradient(large if dy_is_large else small, with_bias)


def _kernel(operation: str, large: Tensor, small: Tensor, stride: int) -> Callable[..., None]:
    """The one that takes all products of an operation, or the one that takes fewer."""
    fewer = winograd_is_faster(operation, large.dtype, large.shape, small.shape[1], stride)
    return getattr(NATIVE, f"winograd_{operation}" if fewer else f"conv_{operation}")


def _shape(large: Tensor, small: Tensor, stride: int) -> tuple[int, ...]:
    """ConvShape of native/kernels.h."""
    batch, channels, height, width = large.shape
    _, maps, rows, columns = small.shape
    return NATIVE_DTYPES[large.dtype], batch, height, width, channels, rows, columns, maps, stride
