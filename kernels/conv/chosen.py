"""Who runs each of conv's operations: ours, or the library where that is faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from fastinfogan.kernels.activation import LINEAR, SLOPE, derived
from fastinfogan.kernels.channels_last import channels_last
from fastinfogan.kernels.conv.library import conv_down, conv_up, conv_weight
from fastinfogan.kernels.conv.rule import ours_is_faster
from fastinfogan.kernels.conv.sums import down_parts, up_parts
from fastinfogan.kernels.dispatch import Impl, op

_LIBRARY = {"down": conv_down, "up": conv_up, "weight": conv_weight}

# Whose operations run, "native" or "triton", and whether always: else where they are faster.
Chosen = tuple[Impl, bool]
LINEARLY = LINEAR, 1.0  # an activation that is none


def down_by(
    chosen: Chosen,
    large: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    activation: tuple[int, float],
) -> Tensor:
    """The small map of a large one."""
    run = _implementation("down", chosen, large, large.shape, weight.shape[0], stride)
    return run(large, weight, bias, stride, *activation)


def up_by(
    chosen: Chosen,
    small: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    size: Sequence[int],
    activation: tuple[int, float],
) -> Tensor:
    """The large map, of this size, of a small one."""
    shape = small.shape[0], weight.shape[1], *size
    run = _implementation("up", chosen, small, shape, weight.shape[0], stride)
    return run(small, weight, bias, stride, *size, *activation)


def input_gradient_by(
    chosen: Chosen,
    dy: Tensor,
    weight: Tensor,
    stride: int,
    transposed: bool,
    x: Tensor,
    slope: float,
) -> Tensor:
    """The gradient of what a slope made x of: where it is ours, in the launch of x's own."""
    operation = "down" if transposed else "up"
    large = dy.shape if transposed else x.shape
    if is_ours(operation, chosen, dy, large, weight.shape[0], stride):
        return op(f"conv_{operation}_derived", chosen[0], dy)(dy, weight, stride, x, slope)
    if transposed:
        dx = down_by(chosen, dy, weight, None, stride, LINEARLY)
    else:
        dx = up_by(chosen, dy, weight, None, stride, x.shape[2:], LINEARLY)
    return channels_last(derived(dx, x, SLOPE, slope))


def normalised_input_by(
    dy: Tensor,
    weight: Tensor,
    stride: int,
    transposed: bool,
    normalised: tuple[Tensor, ...],
    slope: float,
    groups: int,
) -> tuple[Tensor, ...]:
    """The gradients of what goes into a batchnorm before a convolution, of its scale and shift.

    Args:
        dy, weight, stride, transposed: of the convolution.
        normalised: what goes into the batchnorm, its scale, shift and statistics.
        slope, groups: the batchnorm's.
    """
    back = op(f"conv_{'down' if transposed else 'up'}_back", "triton", dy)
    dx, sums = back(dy, weight, stride, *normalised, slope, groups)
    return op("bn_act_backward", "triton", dy)(dx, *normalised, sums, None, slope, groups, True)


def weight_by(
    chosen: Chosen,
    large: Tensor,
    small: Tensor,
    y: Tensor | None,
    slope: float,
    stride: int,
    dy_is_large: bool,
    with_bias: bool,
) -> tuple[Tensor, Tensor]:
    """The gradients of weight and bias."""
    run = _implementation("weight", chosen, large, large.shape, small.shape[1], stride)
    return run(large, small, y, slope, stride, dy_is_large, with_bias)


def _implementation(
    operation: str,
    chosen: Chosen,
    tensor: Tensor,
    large: Sequence[int],
    channels: int,
    stride: int,
) -> Callable[..., Any]:
    if is_ours(operation, chosen, tensor, large, channels, stride):
        return op(f"conv_{operation}", chosen[0], tensor)
    return _LIBRARY[operation]


def is_ours(
    operation: str,
    chosen: Chosen,
    tensor: Tensor,
    large: Sequence[int],
    channels: int,
    stride: int,
) -> bool:
    """Whether an operation is ours."""
    impl, always = chosen
    return always or ours_is_faster(impl, operation, tensor.dtype, large, channels, stride)


def sums_too(
    chosen: Chosen, x: Tensor, weight: Tensor, stride: int, transposed: bool, groups: int
) -> bool:
    """Whether sums of so many groups come with a convolution's result."""
    large = _large(x, weight, stride, transposed)
    return _summed(chosen, "up" if transposed else "down", x, large, weight, stride, groups)


def back_too(
    chosen: Chosen, x: Tensor, weight: Tensor, stride: int, transposed: bool, groups: int
) -> bool:
    """Whether they come with the gradient of a convolution's input."""
    large = _large(x, weight, stride, transposed)
    if large[2] % stride or large[3] % stride:  # pixels that the convolution doesn't see
        return False
    return _summed(chosen, "down" if transposed else "up", x, large, weight, stride, groups)


def _large(x: Tensor, weight: Tensor, stride: int, transposed: bool) -> tuple[int, int, int, int]:
    scale = stride if transposed else 1
    return x.shape[0], weight.shape[1], x.shape[2] * scale, x.shape[3] * scale


def _summed(
    chosen: Chosen,
    operation: str,
    x: Tensor,
    large: tuple[int, int, int, int],
    weight: Tensor,
    stride: int,
    groups: int,
) -> bool:
    """Whether a general kernel of Triton makes this map, in few enough tiles of each group."""
    (batch, channels, height, width), features = large, weight.shape[0]
    if chosen[0] != "triton" or not is_ours(operation, chosen, x, large, features, stride):
        return False
    pixels = batch * (height // stride) * (width // stride)
    if operation == "down":
        return down_parts(pixels, features, channels, groups) > 0
    return up_parts(pixels, stride, channels, features, groups) > 0
