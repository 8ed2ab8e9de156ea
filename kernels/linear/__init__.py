"""A fully connected layer that a library isn't good at.

    y = x W^T + bias        dx = dy W        dW = dy^T x        dbias = sum of dy's rows

On a GPU that is a head, or G's first one. A library takes a launch for each of these products and
one for each bias, and with a single output or a dozen each is far too small for a GPU. Here forward
and backward are one launch each. G's first layer has outputs enough, but some 74 inputs: rows that
aren't aligned for a library's fast kernels. Nothing goes back to noise and codes, so it has a
forward and a gradient of the weight.

A head often shares its input with another reader of the last rows: D's judges all images, Q's
looks at the generated ones. ``linear_and_tail`` hands these rows on, and adds the gradient that
comes back for them to its own, in float32 and in the same launch:

    dx = dy W + [0; dtail]

On a CPU it is a large layer in float32 where the library is made for another maker's processors. On
Intel's it is the way forward of large layers with a long sum, by another library (``rule.py``).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

import fastinfogan.kernels.linear.registration  # noqa: F401  (registers what op() gives)
from fastinfogan.kernels.bn_act import Normalising, bn_act
from fastinfogan.kernels.channels_last import channels_last, in_rows
from fastinfogan.kernels.dispatch import TRITON_DTYPES, Impl, choose, op
from fastinfogan.kernels.linear import native
from fastinfogan.kernels.linear.arguments import check
from fastinfogan.kernels.linear.layout import MOST_OUTPUTS, gathers, is_odd, is_small
from fastinfogan.kernels.linear.rule import native_is_faster, onednn_is_faster
from fastinfogan.kernels.once import once


def linear_reference(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The layer in plain torch: (B, I), (O, I) and (O,) or None give (B, O)."""
    return F.linear(x, weight, bias)


class LinearFunction(torch.autograd.Function):
    """Keeps x only for gradients of the weight; y and the last ``tail`` rows of x come out.

    With a batchnorm in front, x are the maps that go into it, and are kept as well.
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
        sums: Tensor | None,
        front: tuple[float, int, float, float] | None,  # its slope, groups, momentum, eps
        tail: int,
        impl: Impl,
    ) -> tuple[Tensor, Tensor]:
        normalised = ()
        if front is not None:
            maps, numbers = channels_last(x), (scale, shift, running_mean, running_var)
            x, stats = op("bn_act_forward", impl, x)(maps, sums, *numbers, *front, True)
            normalised, x = (maps, scale, shift, stats), in_rows(x)
        wants_parameters = any(ctx.needs_input_grad[1:3])
        ctx.save_for_backward(x if wants_parameters else None, weight, *normalised)
        ctx.rows, ctx.impl, ctx.front = x.shape[0], impl, front
        ctx.set_materialize_grads(False)
        y = op("linear_forward", impl, x)(x, weight, bias)
        return y, x[x.shape[0] - tail :]

    @staticmethod
    @once("linear")
    def backward(ctx, dy: Tensor | None, dtail: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, *normalised = ctx.saved_tensors
        wants = ctx.needs_input_grad[:5]
        outputs = weight.shape[0]
        if dy is None:  # only the tail was of use
            dy = weight.new_zeros((ctx.rows, outputs))
        dy = dy.contiguous()
        dtail = None if dtail is None else dtail.contiguous()
        if normalised:
            slope, groups = ctx.front[:2]
            dx, *found, sums = op("linear_back", ctx.impl, dy)(
                dy, x, weight, dtail, *normalised, slope, groups
            )
            dx, *of_front = op("bn_act_backward", ctx.impl, dy)(
                dx, *normalised, sums, None, slope, groups, True
            )
            gradients = dx, *found, *of_front
        elif ctx.impl == "native" or outputs > MOST_OUTPUTS:
            dx = dweight = dbias = None
            if wants[0]:
                dx = _input(ctx.impl, dy, weight)
                if dtail is not None:
                    dx[ctx.rows - len(dtail) :] += dtail
            if x is not None:
                dweight, dbias = op("linear_weight", ctx.impl, dy)(dy, x)
            gradients = dx, dweight, dbias, None, None
        else:
            found = op("linear_backward", ctx.impl, dy)(dy, x, weight, dtail)
            gradients = *found, None, None
        given = [g if wanted else None for g, wanted in zip(gradients, wants, strict=True)]
        return *given, *[None] * 6


class LongLinearFunction(torch.autograd.Function):
    """Keeps x only for gradients of the weight; going back both products are torch's own."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        wants_parameters = any(ctx.needs_input_grad[1:])
        ctx.save_for_backward(x if wants_parameters else None, weight)
        return op("linear_long", "native", x)(x, weight, bias)

    @staticmethod
    @once("linear")
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        return (
            dy @ weight if wants_x else None,
            dy.t() @ x if wants_weight else None,
            dy.sum(0) if wants_bias else None,
        )


def _input(impl: Impl, dy: Tensor, weight: Tensor) -> Tensor:
    return op("linear_input", impl, dy)(dy, weight) if impl == "native" else dy @ weight


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, impl: Impl = "auto") -> Tensor:
    """A fully connected layer.

    Args:
        x: (B, I), float32, bfloat16, float16 or float64. Any strides do; contiguous ones need no
            copy.
        weight: (O, I) of the same dtype; the same goes for its strides.
        bias: (O,) of the same dtype, or None.
        impl: see ``dispatch.choose``. "auto" on a GPU takes "triton" where there are few outputs
            (``layout.is_small``), or few inputs, unaligned, whose gradient nobody wants
            (``layout.is_odd``), on a CPU "native" by ``rule.native_is_faster`` or oneDNN forward
            by ``rule.onednn_is_faster``, and torch's own layer, "reference", everywhere else.

    Returns:
        (B, O), of the same dtype.

    Raises:
        ValueError: an argument is off: the message names it.
        RuntimeError: ``impl`` can't run here.
    """
    return linear_and_tail(x, weight, bias, 0, impl)[0]


def linear_and_tail(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    tail: int,
    impl: Impl = "auto",
    *,
    front: Normalising | None = None,
) -> tuple[Tensor, Tensor]:
    """A fully connected layer, and the last rows of its input for another reader.

    Args:
        x, weight, bias, impl: see ``linear``.
        tail: rows, 0 to B.
        front: a batchnorm and its slope that x, maps (B, C, H, W) then, goes through first, as
            ``linear_bn_act`` has it.

    Returns:
        As ``linear``; and a view of x, (tail, I), or of what the batchnorm made of it.

    Raises:
        ValueError, RuntimeError: as ``linear``.
    """
    if front is not None:
        front.check(x)
    check(x if front is None else in_rows(channels_last(x)), weight, bias, tail)
    chosen = choose("linear", impl, x, native=native.DTYPES, triton=TRITON_DTYPES)
    together = (
        front is not None and front.shares_sums and chosen == "triton" and is_small(weight.shape)
        and gathers(x.shape, weight.shape[0], front.groups)
    )  # fmt: skip
    if front is not None and not together:
        x = in_rows(bn_act(x, *front, impl=impl))
    if chosen == "native":
        ours = native_is_faster(x.dtype, x.shape[0], weight.shape)
    else:
        ours = is_small(weight.shape) or (is_odd(weight.shape) and not x.requires_grad)
    if chosen == "reference" or (impl == "auto" and not ours):
        long = chosen == "native" and onednn_is_faster(x.dtype, x.shape[0], weight.shape)
        layer = LongLinearFunction.apply if long else linear_reference
        return layer(x, weight, bias), x[x.shape[0] - tail :]
    bias = None if bias is None else bias.contiguous()
    numbers, how = (None,) * 5, None
    if together:
        numbers, how = front.split()
    x = x if together else x.contiguous()
    return LinearFunction.apply(x, weight.contiguous(), bias, *numbers, how, tail, chosen)
