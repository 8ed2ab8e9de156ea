"""4x4 convolutions: stride 2 with one zero around the map, stride 1 "same", and their transposes.

Every convolution of the networks lies between a large map (B, C, H, W) and a small one
(B, M, H / stride, W / stride), with a weight (M, C, 4, 4); "same" puts one zero before each
spatial axis and, with stride 1, two after. In channels-last memory all of these are matrices
without a copy: a map has a row per pixel, the weight is W, (M, 16 C) with columns (ky, kx, c).
Let patches(x) be the matrix (B rows columns, 16 C) whose rows are the 4x4 patches of a large map x
that the small map's pixels see, with zeros outside of x, and let fold be its transpose, which adds
patches up into a large map. With x the input, y the output:

                      convolution (x large)        transposed (x small)
    y                 patches(x) W^T + bias        fold(x W) + bias
    dx                fold(dy W)                   patches(dy) W^T
    dW                dy^T patches(x)              x^T patches(dy)

so there are three operations: ``down`` from a large map to a small one, ``up`` from a small map to
a large one, and ``weight``, dW from both, and with it the bias's gradient, which is the sum of dy
over all pixels. An activation may follow, whose derivative is a function of the result. (Lowering
to matrix products: Chellapilla, Puri and Simard 2006.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

import fastinfogan.kernels.conv.registration  # noqa: F401  (registers what op() gives)
from fastinfogan.kernels.activation import (
    LINEAR,
    SLOPE,
    Activation,
    activate_,
    derived,
    numbered,
)
from fastinfogan.kernels.channels_last import channels_last
from fastinfogan.kernels.conv import native, tiles
from fastinfogan.kernels.conv.arguments import check
from fastinfogan.kernels.conv.layout import bias_gradient
from fastinfogan.kernels.conv.library import conv_down, conv_up, conv_weight, padded
from fastinfogan.kernels.conv.rule import ours_is_faster
from fastinfogan.kernels.conv.sums import summable
from fastinfogan.kernels.dispatch import Impl, choose, op


def conv_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    transposed: bool = False,
    activation: Activation = 1.0,
) -> Tensor:
    """The convolution in plain torch.

    Args:
        x: (B, I, H, W), any float dtype and memory format.
        weight: (O, I, 4, 4), or (I, O, 4, 4) if ``transposed``.
        bias: (O,) or None.
        stride: 1 or 2.
        transposed: the transposed convolution: maps grow.
        activation: see ``conv``.

    Returns:
        (B, O, H / stride, W / stride), rounded down, or (B, O, H * stride, W * stride).
    """
    if not transposed:
        y = F.conv2d(padded(x, stride), weight, bias, stride, padding=stride - 1)
    else:
        y = F.conv_transpose2d(x, weight, bias, stride, padding=1)
        y = y if stride == 2 else y[..., :-1, :-1]  # "same" crops two after, padding=1 only one
    return activate_(y, *numbered(activation))


_LIBRARY = {"down": conv_down, "up": conv_up, "weight": conv_weight}

# Whose operations run, "native" or "triton", and whether always: else where they are faster.
Chosen = tuple[Impl, bool]
LINEARLY = LINEAR, 1.0  # an activation that is none


class ConvFunction(torch.autograd.Function):
    """Keeps x only for a gradient of the weight, and the weight only for one of x.

    And x and y only for an activation's derivative.
    """

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: int,
        transposed: bool,
        activation: tuple[int, float],
        chosen: Chosen,
        groups: int,  # whose sums are wanted; 0: none are
        x_slope: float,
        derived_behind: bool,
    ) -> Tensor | tuple[Tensor, Tensor]:
        x, weight = channels_last(x), channels_last(weight)
        wants_x, wants_weight, _ = ctx.needs_input_grad[:3]
        sums = None
        if groups:
            run = op(f"conv_{'up' if transposed else 'down'}_sums", chosen[0], x)
            y, sums = run(x, weight, bias, stride, *activation, groups)
            ctx.mark_non_differentiable(sums)
            ctx.set_materialize_grads(False)  # zeros for them would be a launch
        elif transposed:
            size = x.shape[2] * stride, x.shape[3] * stride
            y = _up(chosen, x, weight, bias, stride, size, activation)
        else:
            y = _down(chosen, x, weight, bias, stride, activation)
        ctx.save_for_backward(
            x if wants_weight or (wants_x and x_slope != 1.0) else None,
            weight if wants_x else None,
            None if activation[0] == LINEAR or derived_behind else y,
        )
        ctx.settings = x.shape[2:], stride, transposed, activation, chosen, x_slope
        return y if sums is None else (y, sums)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor, _: Tensor | None = None) -> tuple[Tensor | None, ...]:
        x, weight, y = ctx.saved_tensors
        size, stride, transposed, activation, chosen, x_slope = ctx.settings
        dy = channels_last(dy)  # .sum() hands down strides of 0
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        # Where the weight's gradient is all, as in D's first layer, its launch derives the slope.
        inside = wants_weight and not (wants_x or transposed) and activation[0] == SLOPE
        if y is not None and not inside:
            dy, y = channels_last(derived(dy, y, *activation)), None
        dx = dweight = dbias = None
        if wants_x and x_slope != 1.0:
            dx = _derived_input(chosen, dy, weight, stride, transposed, x, x_slope)
        elif wants_x and transposed:
            dx = _down(chosen, dy, weight, None, stride, LINEARLY)
        elif wants_x:
            dx = _up(chosen, dy, weight, None, stride, size, LINEARLY)
        if wants_weight:
            large, small = (dy, x) if transposed else (x, dy)
            more = y, activation[1], stride, transposed, wants_bias
            dweight, dbias = _weight(chosen, large, small, *more)
        elif wants_bias:
            dbias = bias_gradient(dy, True)
        return dx, dweight, dbias if wants_bias else None, *[None] * 7


def _down(
    chosen: Chosen,
    large: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    activation: tuple[int, float],
) -> Tensor:
    run = _implementation("down", chosen, large, large.shape, weight.shape[0], stride)
    return run(large, weight, bias, stride, *activation)


def _up(
    chosen: Chosen,
    small: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    size: Sequence[int],
    activation: tuple[int, float],
) -> Tensor:
    shape = small.shape[0], weight.shape[1], *size
    run = _implementation("up", chosen, small, shape, weight.shape[0], stride)
    return run(small, weight, bias, stride, *size, *activation)


def _derived_input(
    chosen: Chosen,
    dy: Tensor,
    weight: Tensor,
    stride: int,
    transposed: bool,
    x: Tensor,
    slope: float,
) -> Tensor:
    """The gradient of what a slope made x of: on a GPU in the launch of x's own."""
    operation = "down" if transposed else "up"
    large = dy.shape if transposed else x.shape
    if chosen[0] == "triton" and _ours(operation, chosen, dy, large, weight.shape[0], stride):
        return op(f"conv_{operation}_derived", "triton", dy)(dy, weight, stride, x, slope)
    if transposed:
        dx = _down(chosen, dy, weight, None, stride, LINEARLY)
    else:
        dx = _up(chosen, dy, weight, None, stride, x.shape[2:], LINEARLY)
    return channels_last(derived(dx, x, SLOPE, slope))


def _weight(
    chosen: Chosen,
    large: Tensor,
    small: Tensor,
    y: Tensor | None,
    slope: float,
    stride: int,
    dy_is_large: bool,
    with_bias: bool,
) -> tuple[Tensor, Tensor]:
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
    if _ours(operation, chosen, tensor, large, channels, stride):
        return op(f"conv_{operation}", chosen[0], tensor)
    return _LIBRARY[operation]


def _ours(
    operation: str,
    chosen: Chosen,
    tensor: Tensor,
    large: Sequence[int],
    channels: int,
    stride: int,
) -> bool:
    impl, always = chosen
    return always or ours_is_faster(impl, operation, tensor.dtype, large, channels, stride)


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    transposed: bool = False,
    activation: Activation = 1.0,
    impl: Impl = "auto",
) -> Tensor:
    """A 4x4 convolution; for the backward it keeps what the gradients asked for need.

    Args:
        x: (B, I, H, W), float32, bfloat16, float16 or float64. Any strides do; channels-last ones
            need no copy. A convolution of stride 2 takes maps of 2x2 or more.
        weight: (O, I, 4, 4), or (I, O, 4, 4) if ``transposed``, of the same dtype; the same goes
            for its strides.
        bias: (O,) of the same dtype, or None.
        stride: 1 or 2.
        transposed: the transposed convolution: maps grow.
        activation: what follows: a slope below zero, 0 to 1 (0 is ReLU, 1 none at all), "sigmoid"
            or "tanh".
        impl: see ``dispatch.choose``. "auto" takes, for each of the output and the two gradients,
            ours or torch's own by ``rule.ours_is_faster``.

    Returns:
        (B, O, H / stride, W / stride), rounded down, or (B, O, H * stride, W * stride);
        channels-last.

    Raises:
        ValueError: an argument is off: the message names it.
        RuntimeError: ``impl`` can't run here.
    """
    return conv_and_sums(x, weight, bias, stride, transposed, activation, 0, impl)[0]


def conv_and_sums(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    transposed: bool,
    activation: Activation,
    groups: int,
    impl: Impl = "auto",
    *,
    x_slope: float = 1.0,
    derived_behind: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """A 4x4 convolution between other layers: some of their work is done in its launches.

    Two that follow each other, with nothing but the first one's slope in between, agree on who
    applies that slope's derivative: the first is told ``derived_behind``, the second gets the slope
    as ``x_slope``, and nobody else may read what lies between them.

    Args:
        x, weight, bias, stride, transposed, activation, impl: see ``conv``.
        groups: that a ``bn_act`` which follows will be given, 1 or 2; 0: none follows. What it
            would have to gather first is found on the way.
        x_slope: of the slope that x came out of, 0 to 1: the gradient that x gets is that of what
            went into it. 1 changes nothing.
        derived_behind: the gradient that comes back has this one's slope in it already.

    Returns:
        As ``conv``; and the result's sums, (parts, 3, groups, O) float32, for ``bn_act``'s
        ``sums``. None where only Triton's kernels would have them, and others run.

    Raises:
        ValueError, RuntimeError: as ``conv``.
    """
    check(x, weight, bias, stride, transposed, activation, groups, x_slope, derived_behind)
    runs = choose("conv", impl, x, native=native.DTYPES, triton=tiles.DTYPES)
    if runs == "reference":
        y = conv_reference(x, weight, bias, stride, transposed, activation)
        return channels_last(y), None  # autograd derives every slope where it is
    chosen = runs, impl != "auto"
    if not _sums_too(chosen, x, weight, stride, transposed):
        groups = 0
    result = ConvFunction.apply(
        x, weight, bias, stride, transposed, numbered(activation), chosen, groups,
        x_slope, derived_behind,
    )  # fmt: skip
    return result if groups else (result, None)


def _sums_too(chosen: Chosen, x: Tensor, weight: Tensor, stride: int, transposed: bool) -> bool:
    """Whether sums can come with the map: from the general kernels of Triton, in one launch."""
    if chosen[0] != "triton":
        return False
    features, channels = weight.shape[:2]
    scale = stride if transposed else 1
    large = x.shape[0], channels, x.shape[2] * scale, x.shape[3] * scale
    operation = "up" if transposed else "down"
    ours = _ours(operation, chosen, x, large, features, stride)
    return ours and summable(large, stride, transposed)
