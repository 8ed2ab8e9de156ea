"""Batch normalisation followed by a (leaky) ReLU.

For each channel, over the N values that the channel has in one group of the batch:

    mu    = sum(x) / N                 var = sum((x - mu)^2) / N
    x_hat = (x - mu) / sqrt(var + eps) y   = act(weight * x_hat + bias)
    act(u) = u if u > 0 else slope * u

Running statistics follow torch: r <- (1 - momentum) r + momentum s, with the unbiased variance
(N - 1 in the denominator). With ``groups=2`` the first and the second half of the batch are
normalised apart, as two calls would (the real and the fake images of D's update), and the running
statistics are updated by the first half, then by the second.

Backward, with g = dy act'(u), u = weight x_hat + bias, and sums over the same N values:

    dbias = sum(g)                     dweight = sum(g x_hat)
    dx    = weight / sqrt(var + eps) (g - dbias / N - x_hat dweight / N)

Either way one pass over memory gathers sums and a second applies them. Only x and two numbers per
channel are kept in between: u, and so the activation's derivative, is computed again.

(Ioffe and Szegedy 2015, algorithm 1; the order norm -> activation is that of the published InfoGAN
code.)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

import fastinfogan.kernels.bn_act.registration  # noqa: F401  (registers what op() gives)
from fastinfogan.kernels.bn_act.arguments import Exchange, check
from fastinfogan.kernels.channels_last import channels_last
from fastinfogan.kernels.dispatch import NATIVE_DTYPES, TRITON_DTYPES, Impl, choose, op
from fastinfogan.kernels.once import once


def bn_act_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    slope: float,
    groups: int = 1,
    momentum: float = 0.1,
    eps: float = 1e-5,
    training: bool = True,
) -> Tensor:
    """Batchnorm and (leaky) ReLU in plain torch.

    Args:
        x: (B, C) or (B, C, H, W), any float dtype and memory format.
        weight, bias: (C,) scale and shift.
        running_mean, running_var: (C,) float32, updated in place when ``training``; None leaves
            no trace of the call (training only).
        slope: factor below zero; 0 is ReLU, 1 no activation at all.
        groups: 1 or 2 equal parts of the batch with statistics of their own.
        momentum, eps, training: see ``bn_act``.

    Returns:
        A tensor like ``x``.

    Raises:
        ValueError: ``groups`` doesn't divide the batch, or a channel has a single value.
    """
    if x.shape[0] % groups:
        raise ValueError(f"groups={groups} doesn't divide a batch of {x.shape[0]}")
    if not training:  # running statistics know no groups
        y = F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
        return F.leaky_relu(y, slope)
    parts = [
        F.batch_norm(part, running_mean, running_var, weight, bias, True, momentum, eps)
        for part in x.chunk(groups)
    ]
    return F.leaky_relu(parts[0] if groups == 1 else torch.cat(parts), slope)


class Normalising(NamedTuple):
    """What ``bn_act`` is asked for beside its input, for who calls it on the way to something else.

    Attributes: as the arguments of the same names.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor | None
    running_var: Tensor | None
    slope: float
    groups: int = 1
    momentum: float = 0.1
    eps: float = 1e-5
    training: bool = True
    exchange: Exchange | None = None
    sums: Tensor | None = None

    def check(self, x: Tensor) -> None:
        """As ``bn_act`` would, given this and x.

        Raises:
            ValueError: an argument is off.
        """
        check(x, *self)

    @property
    def shares_sums(self) -> bool:
        """Whether what its backward pass gathers first may be found by the op that comes next."""
        return self.training and self.exchange is None and torch.is_grad_enabled()

    def split(self) -> tuple[tuple[Tensor | None, ...], tuple[float, int, float, float]]:
        """What an autograd function takes of it that does its work.

        Weight, bias, running mean and variance, and sums; slope, groups, momentum and eps.
        """
        return (*self[:4], self.sums), self[4:8]


class BnActFunction(torch.autograd.Function):
    """Keeps x, the affine parameters and (mean, 1 / sigma) per channel; recomputes the rest."""

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        sums: Tensor | None,
        settings: tuple[float, int, float, float, bool, Exchange | None, Impl],
    ) -> Tensor:
        slope, groups, momentum, eps, training, exchange, impl = settings
        x = channels_last(x)
        partials = sums  # None: those of x, which the op finds by itself
        if training and exchange is not None:
            partials = exchange(op("bn_act_partials", impl, x)(x, groups))
        y, stats = op("bn_act_forward", impl, x)(
            x,
            partials,
            weight,
            bias,
            running_mean,
            running_var,
            slope,
            groups,
            momentum,
            eps,
            training,
        )
        ctx.save_for_backward(x, weight, bias, stats)
        ctx.settings = settings
        return y

    @staticmethod
    @once("bn_act")
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, stats = ctx.saved_tensors
        slope, groups, _, _, training, exchange, impl = ctx.settings
        dy = channels_last(dy)  # .sum() hands down strides of 0
        own = partials = None
        if training and exchange is not None:
            own = op("bn_act_backward_partials", impl, x)(dy, x, weight, bias, stats, slope, groups)
            partials = exchange(own)
        dx, dweight, dbias = op("bn_act_backward", impl, x)(
            dy, x, weight, bias, stats, own, partials, slope, groups, training
        )
        return dx, dweight, dbias, None, None, None, None


def bn_act(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    slope: float,
    groups: int = 1,
    momentum: float = 0.1,
    eps: float = 1e-5,
    training: bool = True,
    exchange: Exchange | None = None,
    sums: Tensor | None = None,
    impl: Impl = "auto",
) -> Tensor:
    """Batchnorm and (leaky) ReLU; for the backward it keeps x and two numbers per channel.

    Args:
        x: (B, C) or (B, C, H, W), float32, bfloat16, float16 or float64. Any strides do;
            channels-last ones need no copy.
        weight, bias: (C,) scale and shift, float32 (float64 if x is).
        running_mean, running_var: (C,) of the same dtype, updated in place when ``training``; None
            leaves no trace of the call (training only).
        slope: factor below zero, 0 to 1; 0 is ReLU, 1 no activation at all.
        groups: 1 or 2 equal parts of the batch with statistics of their own.
        momentum: weight of the new value in the running statistics.
        eps: added to the variance.
        training: normalise with the statistics of the batch, else with the running ones.
        exchange: for ranks that synchronise their statistics: gets this rank's partial sums,
            (parts, 3, groups, C), one part on a GPU, and returns those of all ranks, concatenated
            along dimension 0.
            Called once in the forward and once in the backward pass. Gradients of weight and bias
            stay those of the rank, to be averaged as any others.
        sums: those of x, which whoever made it found on the way (``conv_and_sums``):
            (parts, 3, groups, C) float32, training only and not with ``exchange``. None, or no
            parts: gathered here.
        impl: see ``dispatch.choose``.

    Returns:
        A tensor like ``x``, channels-last.

    Raises:
        ValueError: an argument is off: the message names it.
        RuntimeError: ``impl`` can't run here.
    """
    check(
        x, weight, bias, running_mean, running_var, slope, groups, momentum, eps, training,
        exchange, sums,
    )  # fmt: skip
    impl = choose("bn_act", impl, x, native=NATIVE_DTYPES, triton=TRITON_DTYPES)
    if not training:
        groups = 1
    if impl == "reference":
        if exchange is not None:
            raise RuntimeError("bn_act: impl='reference' can't run: it has no exchange")
        if sums is not None:
            raise RuntimeError("bn_act: impl='reference' can't run: it gathers sums by itself")
        y = bn_act_reference(
            x, weight, bias, running_mean, running_var, slope, groups, momentum, eps, training
        )
        return channels_last(y)
    settings = slope, groups, momentum, eps, training, exchange, impl
    return BnActFunction.apply(x, weight, bias, running_mean, running_var, sums, settings)
