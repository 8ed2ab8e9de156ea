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
to matrix products: Chellapilla, Puri and Simard 2006. On a CPU large layers take fewer products for
the same sums: Winograd 1980, see ``native/winograd.h``.)
"""

from __future__ import annotations

import torch
from torch import Tensor
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
from fastinfogan.kernels.bn_act import Normalising, bn_act
from fastinfogan.kernels.channels_last import channels_last
from fastinfogan.kernels.conv import native, tiles
from fastinfogan.kernels.conv.arguments import check
from fastinfogan.kernels.conv.chosen import (
    LINEARLY,
    Chosen,
    back_too,
    down_by,
    input_gradient_by,
    normalised_input_by,
    sums_too,
    up_by,
    weight_by,
)
from fastinfogan.kernels.conv.layout import bias_gradient
from fastinfogan.kernels.conv.library import padded
from fastinfogan.kernels.dispatch import Impl, choose, op
from fastinfogan.kernels.once import once


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


class ConvFunction(torch.autograd.Function):
    """Keeps x only for a gradient of the weight, and the weight only for one of x.

    And x and y only for an activation's derivative. With a batchnorm in front it is as if x were
    what that makes, and what goes into it is kept besides, as ``bn_act`` does.
    """

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        scale: Tensor | None,  # of a batchnorm in front, and what follows; or None
        shift: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        x_sums: Tensor | None,
        front: tuple[float, int, float, float],  # its slope, groups, momentum, eps
        settings: tuple[int, bool, tuple[int, float], Chosen, int, float, bool],
    ) -> Tensor | tuple[Tensor, Tensor]:
        stride, transposed, activation, chosen, groups, x_slope, derived_behind = settings
        x, weight = channels_last(x), channels_last(weight)
        normalised = None, None, None, None
        if scale is not None:
            raw, numbers = x, (scale, shift, running_mean, running_var)
            x, stats = op("bn_act_forward", "triton", x)(raw, x_sums, *numbers, *front, True)
            normalised = raw, scale, shift, stats
        wants_x, wants_weight, _, *wants_front = ctx.needs_input_grad[:5]
        wants_x |= any(wants_front)
        sums = None
        if groups:
            run = op(f"conv_{'up' if transposed else 'down'}_sums", chosen[0], x)
            y, sums = run(x, weight, bias, stride, *activation, groups)
            ctx.mark_non_differentiable(sums)
            ctx.set_materialize_grads(False)  # zeros for them would be a launch
        elif transposed:
            size = x.shape[2] * stride, x.shape[3] * stride
            y = up_by(chosen, x, weight, bias, stride, size, activation)
        else:
            y = down_by(chosen, x, weight, bias, stride, activation)
        ctx.save_for_backward(
            x if wants_weight or (wants_x and x_slope != 1.0) else None,
            weight if wants_x else None,
            None if activation[0] == LINEAR or derived_behind else y,
            *(normalised if wants_x else ()),
        )
        ctx.settings = x.shape[2:], stride, transposed, activation, chosen, x_slope, front[:2]
        return y if sums is None else (y, sums)

    @staticmethod
    @once("conv")
    def backward(ctx, dy: Tensor, _: Tensor | None = None) -> tuple[Tensor | None, ...]:
        x, weight, y, *normalised = ctx.saved_tensors
        size, stride, transposed, activation, chosen, x_slope, front = ctx.settings
        dy = channels_last(dy)  # .sum() hands down strides of 0
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        wants_x = weight is not None
        # Where the weight's gradient is all, as in D's first layer, its launch derives the slope.
        inside = wants_weight and not (wants_x or transposed) and activation[0] == SLOPE
        if y is not None and not inside:
            dy, y = channels_last(derived(dy, y, *activation)), None
        dx = dweight = dbias = dscale = dshift = None
        if wants_x and normalised[0] is not None:
            dx, dscale, dshift = normalised_input_by(
                dy, weight, stride, transposed, normalised, *front
            )
        elif wants_x and x_slope != 1.0:
            dx = input_gradient_by(chosen, dy, weight, stride, transposed, x, x_slope)
        elif wants_x and transposed:
            dx = down_by(chosen, dy, weight, None, stride, LINEARLY)
        elif wants_x:
            dx = up_by(chosen, dy, weight, None, stride, size, LINEARLY)
        if wants_weight:
            large, small = (dy, x) if transposed else (x, dy)
            more = y, activation[1], stride, transposed, wants_bias
            dweight, dbias = weight_by(chosen, large, small, *more)
        elif wants_bias:
            dbias = bias_gradient(dy, True)
        found = dx, dweight, dbias, dscale, dshift
        wanted = zip(found, ctx.needs_input_grad[:5], strict=True)
        return *(gradient if wants else None for gradient, wants in wanted), *[None] * 5


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
    front: Normalising | None = None,
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
        front: a batchnorm and its slope that x goes through first, as ``bn_act`` would put it. What
            its backward pass has to gather is then found by the launch that makes its gradient,
            where ``back_too`` says so.

    Returns:
        As ``conv``; and the result's sums, (parts, 3, groups, O) float32, for ``bn_act``'s
        ``sums``. None where only Triton's kernels would have them, and others run.

    Raises:
        ValueError, RuntimeError: as ``conv``.
    """
    check(x, weight, bias, stride, transposed, activation, groups, x_slope, derived_behind, front)
    runs = choose("conv", impl, x, native=native.DTYPES, triton=tiles.DTYPES)
    chosen = runs, impl != "auto"
    back = front is not None and front.shares_sums
    together = back and back_too(chosen, x, weight, stride, transposed, front.groups)
    if front is not None and not together:
        x, front = bn_act(x, *front, impl=impl), None
    if runs == "reference":
        y = conv_reference(x, weight, bias, stride, transposed, activation)
        return channels_last(y), None  # autograd derives every slope where it is
    if groups and not sums_too(chosen, x, weight, stride, transposed, groups):
        groups = 0
    numbers, how = (None,) * 5, (1.0, 1, 0.0, 0.0)
    if front is not None:
        numbers, how = front.split()
    result = ConvFunction.apply(
        x, weight, bias, *numbers, how,
        (stride, transposed, numbered(activation), chosen, groups, x_slope, derived_behind),
    )  # fmt: skip
    return result if groups else (result, None)
