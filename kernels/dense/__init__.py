"""Fully connected layers, one after the other, in one call each way.

    h_0 = x        h_l = act_l(h_{l-1} W_l^T + bias_l)        y = h_L

Backward, with g_l the gradient before layer l's activation, which its result tells:

    g_L = dy act_L'            dW_l = g_l^T h_{l-1}            dbias_l = sum of g_l's rows
    g_{l-1} = (g_l W_l) act_{l-1}'                             dx = g_1 W_1

Small layers in a small batch take a CPU less time than Python and a library's calls do around them:
here a whole network is one call, its products' epilogues have bias and activation in them, and a
hidden map lies so that no product needs a copy of a weight (``native/dense.cpp``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

import fastinfogan.kernels.dense.registration  # noqa: F401  (registers what op() gives)
from fastinfogan.kernels.activation import TANH, Activation, activate_, numbered
from fastinfogan.kernels.dense.arguments import check
from fastinfogan.kernels.dense.layout import DTYPES
from fastinfogan.kernels.dense.rule import fits
from fastinfogan.kernels.dispatch import Impl, choose, op
from fastinfogan.kernels.linear import linear
from fastinfogan.kernels.once import once


def dense_reference(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    activations: Sequence[Activation],
) -> Tensor:
    """The layers in plain torch; arguments as ``dense``'s."""
    return _layers(x, weights, biases, activations, "reference")


def _layers(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    activations: Sequence[Activation],
    impl: Impl,
) -> Tensor:
    for weight, bias, activation in zip(weights, biases, activations, strict=True):
        x = activate_(linear(x, weight, bias, impl), *numbered(activation))
    return x


class DenseFunction(torch.autograd.Function):
    """Keeps x, y and the hidden maps."""

    @staticmethod
    def forward(
        ctx,
        settings: tuple[tuple[int, ...], tuple[float, ...], Impl],
        x: Tensor,
        *parameters: Tensor | None,
    ) -> Tensor:
        kinds, slopes, impl = settings
        count = len(kinds)
        weights, biases = parameters[:count], parameters[count:]
        results = op("dense_forward", impl, x)(x, weights, biases, kinds, slopes)
        ctx.save_for_backward(x, *results, *weights)
        ctx.settings = settings, [bias is not None for bias in biases]
        return results[0]

    @staticmethod
    @once("dense")
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        (kinds, slopes, impl), biased = ctx.settings
        count = len(kinds)
        x, *saved = ctx.saved_tensors
        results, weights = saved[:count], saved[count:]
        wants_x, wants = ctx.needs_input_grad[1], ctx.needs_input_grad[2:]
        found = op("dense_backward", impl, dy)(
            dy.contiguous(), x, results, weights, biased, kinds, slopes, wants_x, any(wants)
        )
        own = iter(found)
        dx = next(own) if wants_x else None
        if not any(wants):
            return None, dx, *[None] * len(wants)
        there = [True] * count + biased
        gradients = [next(own) if has else None for has in there]
        return None, dx, *(g if w else None for g, w in zip(gradients, wants, strict=True))


def dense(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    activations: Sequence[Activation],
    impl: Impl = "auto",
) -> Tensor:
    """Fully connected layers, one after the other, each with its activation.

    Args:
        x: (B, I), float32, bfloat16, float16 or float64. Any strides do; contiguous ones need no
            copy. The same goes for all others.
        weights: by layer, (O, I) of the same dtype, where I is the O of the one before.
        biases: by layer, (O,) of the same dtype, or None.
        activations: by layer, the slope below zero (0 is ReLU, 1 no activation at all), "sigmoid"
            or "tanh".
        impl: see ``dispatch.choose``. "auto" takes "native" where the layers are small
            (``rule.fits``), and otherwise ``linear`` for each, as that one chooses.

    Returns:
        (B, O) of the last layer, of the same dtype.

    Raises:
        ValueError: an argument is off: the message names it.
        RuntimeError: ``impl`` can't run here.
    """
    check(x, weights, biases, activations)
    chosen = choose("dense", impl, x, native=DTYPES, triton=())
    kinds, slopes = zip(*map(numbered, activations), strict=True)
    if chosen == "native" and TANH in kinds and impl != "auto":
        raise RuntimeError("dense: impl='native' can't run: it has no tanh")
    if chosen == "reference" or (
        impl == "auto" and not fits(x.shape[0], [w.shape for w in weights], kinds)
    ):
        return _layers(x, weights, biases, activations, impl if impl == "auto" else "reference")
    parameters = [None if p is None else p.contiguous() for p in (*weights, *biases)]
    return DenseFunction.apply((kinds, slopes, chosen), x.contiguous(), *parameters)
