"""A fully connected layer, batch normalisation and a (leaky) ReLU.

    z = x W^T        y = act(scale * (z - mu) / sqrt(var + eps) + shift)

with mu and var over the rows of a group of the batch, as in ``bn_act``. Backward, with dz the
gradient that ``bn_act`` gives:

    dx = dz W        dW = dz^T x

On a GPU such layers are small: what they compute takes hardly longer than the way from one launch
to the next. Statistics are over rows, and these are few: a program that has all rows of some
outputs has all it takes to normalise them. Going back, so has one that multiplies all rows for a
part of the weight's gradient; of many inputs that is a library's. z is rounded as it would be
between two ops, and kept for the backward pass.

Everywhere else, and where ranks exchange their sums, it is ``linear`` and then ``bn_act``.
"""

from __future__ import annotations

import torch
from torch import Tensor

import fastinfogan.kernels.linear_bn_act.registration  # noqa: F401  (registers what op() gives)
from fastinfogan.kernels.bn_act import Normalising, bn_act, bn_act_reference
from fastinfogan.kernels.bn_act.arguments import Exchange
from fastinfogan.kernels.channels_last import channels_last, in_rows
from fastinfogan.kernels.dispatch import TRITON_DTYPES, Impl, choose, op
from fastinfogan.kernels.linear import linear, linear_reference
from fastinfogan.kernels.linear_bn_act.arguments import check
from fastinfogan.kernels.linear_bn_act.layout import FEW_OUTPUTS, HALF, MOST_ROWS, gathers
from fastinfogan.kernels.once import once


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
    """Keeps z and (mean, 1 / sigma) per output, and x only for gradients of the parameters.

    With a batchnorm in front, x are the maps that go into it, and are kept as well.
    """

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor,
        scale: Tensor,
        shift: Tensor,
        maps_scale: Tensor | None,  # of a batchnorm in front, and what follows; or None
        maps_shift: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        maps_mean: Tensor | None,
        maps_var: Tensor | None,
        maps_sums: Tensor | None,
        front: tuple[float, int, float, float] | None,  # its slope, groups, momentum, eps
        settings: tuple[float, int, float, float, bool, Impl],
    ) -> Tensor:
        slope, groups, momentum, eps, keeps, impl = settings
        normalised = ()
        if front is not None:
            maps, numbers = channels_last(x), (maps_scale, maps_shift, maps_mean, maps_var)
            x, stats = op("bn_act_forward", impl, x)(maps, maps_sums, *numbers, *front, True)
            normalised, x = (maps, maps_scale, maps_shift, stats), in_rows(x)
        y, z, stats = op("linear_bn_act_forward", impl, x)(
            x, weight, scale, shift, running_mean, running_var, slope, groups, momentum, eps, keeps
        )
        learns = any(ctx.needs_input_grad[1:4])
        kept = x if learns else None
        ctx.save_for_backward(kept, weight, scale, shift, z, stats, *normalised)
        ctx.settings = slope, groups, impl, front
        return y

    @staticmethod
    @once("linear_bn_act")
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale, shift, z, stats, *normalised = ctx.saved_tensors
        slope, groups, impl, front = ctx.settings
        wants = ctx.needs_input_grad[:6]
        arguments = dy.contiguous(), x, weight, scale, shift, z, stats, slope, groups
        if not normalised:
            found = op("linear_bn_act_backward", impl, dy)(*arguments, wants[0])
            gradients = *found, None, None
        else:
            dx, *found, sums = op("linear_bn_act_back", impl, dy)(*arguments, *normalised, front[0])
            dx, *of_front = op("bn_act_backward", impl, dy)(
                dx, *normalised, sums, None, front[0], groups, True
            )
            gradients = dx, *found, *of_front
        given = [g if wanted else None for g, wanted in zip(gradients, wants, strict=True)]
        return *given, *[None] * 7


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
    *,
    front: Normalising | None = None,
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
        front: a batchnorm and its slope that x, maps (B, C, H, W) then, goes through first, as
            ``bn_act`` would put it; behind it come its numbers in the order of memory, I = H W C.
            What its backward pass has to gather is then found by the launch that makes its
            gradient, where one of ours does.

    Returns:
        (B, O), like ``x``.

    Raises:
        ValueError: an argument is off: the message names it.
        RuntimeError: ``impl`` can't run here.
    """
    if front is not None:
        front.check(x)
    rows = x if front is None else in_rows(channels_last(x))
    check(
        rows, weight, scale, shift, running_mean, running_var, slope, groups, momentum, eps,
        training, exchange,
    )  # fmt: skip
    chosen = choose("linear_bn_act", impl, x, native=(), triton=TRITON_DTYPES)
    obstacle = _obstacle(x.shape[0] // groups, training, exchange)
    ours = chosen == "triton" and not obstacle and (impl != "auto" or x.dtype in HALF)
    leaves = rows, weight, scale, shift, *(front[:2] if front is not None else ())
    keeps = torch.is_grad_enabled() and any(t.requires_grad for t in leaves)
    if front is not None and not (ours and keeps and _together(x, weight, groups, front)):
        x, front = in_rows(bn_act(x, *front, impl=impl)), None
    behind = scale, shift, running_mean, running_var, slope, groups, momentum, eps, training
    if impl == "auto" and not ours:
        return bn_act(linear(x, weight, None), *behind, exchange)
    if chosen == "reference":
        if exchange is not None:
            raise RuntimeError("linear_bn_act: impl='reference' can't run: it has no exchange")
        return linear_bn_act_reference(x, weight, *behind)
    if obstacle:
        raise RuntimeError(f"linear_bn_act: impl={impl!r} can't run: {obstacle}")
    numbers, how = (None,) * 5, None
    if front is not None:
        numbers, how = front.split()
    maps_scale, maps_shift, *of_maps = numbers
    return LinearBnActFunction.apply(
        x.contiguous() if front is None else x,
        weight.contiguous(),
        scale,
        shift,
        maps_scale,
        maps_shift,
        running_mean,
        running_var,
        *of_maps,
        how,
        (slope, groups, momentum, eps, keeps, chosen),
    )


def _obstacle(rows: int, training: bool, exchange: Exchange | None) -> str:
    """Why our kernels can't take a layer; "" if they can."""
    if exchange is not None:
        return "it has no exchange"
    if not training:
        return "it has no running statistics to go by: training=True works"
    if rows > MOST_ROWS:
        return f"it takes up to {MOST_ROWS} rows a group, and these are {rows}"
    return ""


def _together(maps: Tensor, weight: Tensor, groups: int, front: Normalising) -> bool:
    """Whether the sums of the batchnorm in front come with the gradient of what it makes."""
    alike = front.shares_sums and front.groups == groups
    return alike and weight.shape[0] > FEW_OUTPUTS and gathers(maps.shape)
