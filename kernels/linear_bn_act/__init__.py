"""A fully connected layer, batch normalisation and a (leaky) ReLU.

    z = x W^T        y = act(scale * (z - mu) / sqrt(var + eps) + shift)

with mu and var over the rows of a group of the batch, as in ``bn_act``. Backward, with dz the
gradient that ``bn_act`` gives:

    dx = dz W        dW = dz^T x

On a GPU such layers are small: what they compute takes hardly longer than the way from one launch
to the next. Statistics are over rows, and these are few: a program that has all rows of some
outputs has all it takes to normalise them. Going back, so has one that multiplies all rows for a
part of the weight's gradient. z is rounded as it would be between two ops, and kept for the
backward pass.

Everywhere else, and where ranks exchange their sums, it is ``linear`` and then ``bn_act``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

import fastinfogan.kernels.linear_bn_act.registration  # noqa: F401  (registers what op() gives)
from fastinfogan.kernels.bn_act import bn_act, bn_act_reference
from fastinfogan.kernels.bn_act.arguments import Exchange
from fastinfogan.kernels.dispatch import TRITON_DTYPES, Impl, choose, op
from fastinfogan.kernels.linear import linear, linear_reference
from fastinfogan.kernels.linear_bn_act.arguments import check
from fastinfogan.kernels.linear_bn_act.layout import HALF, MOST_ROWS


def linear_bn_act_reference(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    slope: float,
    groups: int = 1,
    momentum: float = 0.1,
    eps: float = 1e-5,
    training: bool = True,
) -> Tensor:
    """The layer in plain torch; arguments and result as ``linear_bn_act``'s."""
    z = linear_reference(x, weight, None)
    statistics = running_mean, running_var
    return bn_act_reference(z, scale, shift, *statistics, slope, groups, momentum, eps, training)


class LinearBnActFunction(torch.autograd.Function):
    """Keeps z and (mean, 1 / sigma) per output, and x only for gradients of the parameters."""

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor,
        scale: Tensor,
        shift: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        settings: tuple[float, int, float, float, bool, Impl],
    ) -> Tensor:
        slope, groups, momentum, eps, keeps, impl = settings
        y, z, stats = op("linear_bn_act_forward", impl, x)(
            x, weight, scale, shift, running_mean, running_var, slope, groups, momentum, eps, keeps
        )
        learns = any(ctx.needs_input_grad[1:4])
        ctx.save_for_backward(x if learns else None, weight, scale, shift, z, stats)
        ctx.settings = slope, groups, impl
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale, shift, z, stats = ctx.saved_tensors
        slope, groups, impl = ctx.settings
        wants = ctx.needs_input_grad[:4]
        gradients = op("linear_bn_act_backward", impl, dy)(
            dy.contiguous(), x, weight, scale, shift, z, stats, slope, groups, wants[0]
        )
        given = [g if wanted else None for g, wanted in zip(gradients, wants, strict=True)]
        return *given, None, None, None


def linear_bn_act(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    slope: float,
    groups: int = 1,
    momentum: float = 0.1,
    eps: float = 1e-5,
    training: bool = True,
    exchange: Exchange | None = None,
    impl: Impl = "auto",
) -> Tensor:
    """A fully connected layer without a bias, batchnorm and (leaky) ReLU.

    Args:
        x: (B, I), float32, bfloat16, float16 or float64. Any strides do; contiguous ones need no
            copy.
        weight: (O, I) of the same dtype; the same goes for its strides.
        scale, shift: (O,) batchnorm's, float32 (float64 if x is).
        running_mean, running_var: (O,) of the same dtype, or None, as ``bn_act`` has them.
        slope, groups, momentum, eps, training, exchange: see ``bn_act``.
        impl: see ``dispatch.choose``. "auto" on a GPU takes "triton" in half precision, for up to
            ``layout.MOST_ROWS`` rows a group that are normalised with their own statistics, which
            nobody exchanges; everywhere else ``linear`` and then ``bn_act``, as these choose.

    Returns:
        (B, O), like ``x``.

    Raises:
        ValueError: an argument is off: the message names it.
        RuntimeError: ``impl`` can't run here.
    """
    check(x, weight, scale, shift, running_mean, running_var, slope, groups, training, exchange)
    chosen = choose("linear_bn_act", impl, x, native=(), triton=TRITON_DTYPES)
    rows = x.shape[0] // groups
    obstacle = (
        "it has no exchange" if exchange is not None
        else "it has no running statistics to go by: training=True works" if not training
        else f"it takes up to {MOST_ROWS} rows a group, and these are {rows}" if rows > MOST_ROWS
        else ""
    )  # fmt: skip
    behind = scale, shift, running_mean, running_var, slope, groups, momentum, eps, training
    if impl == "auto" and (chosen != "triton" or obstacle or x.dtype not in HALF):
        return bn_act(linear(x, weight, None), *behind, exchange)
    if chosen == "reference":
        if exchange is not None:
            raise RuntimeError("linear_bn_act: impl='reference' can't run: it has no exchange")
        return linear_bn_act_reference(x, weight, *behind)
    if obstacle:
        raise RuntimeError(f"linear_bn_act: impl={impl!r} can't run: {obstacle}")
    leaves = x, weight, scale, shift
    keeps = torch.is_grad_enabled() and any(t.requires_grad for t in leaves)
    return LinearBnActFunction.apply(
        x.contiguous(),
        weight.contiguous(),
        scale,
        shift,
        running_mean,
        running_var,
        (slope, groups, momentum, eps, keeps, chosen),
    )
