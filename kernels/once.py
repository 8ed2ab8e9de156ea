"""Backward passes that can't be differentiated again say so, wherever a gradient comes from."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Gradients = tuple[Tensor | None, ...]


class _Refusal(torch.autograd.Function):
    """Passes a gradient on; its own backward pass is the error."""

    @staticmethod
    def forward(ctx, gradient: Tensor, op: str) -> Tensor:
        ctx.op = op
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx, _: Tensor) -> Gradients:
        raise RuntimeError(
            f"{ctx.op}: it has no second derivative; impl='reference' has, "
            "which every op takes inside kernels.dispatch.plain_ops()"
        )


def once(op: str) -> Callable[[Callable[..., Gradients]], Callable[..., Gradients]]:
    """Mark the ``backward`` of an op's autograd function as one that has no derivative.

    torch's ``once_differentiable`` asks whether the gradient that comes in has a history. That of a
    sum has none, so a gradient penalty, say, would have counted for nothing, without a word. Here
    whatever comes out of a recorded backward pass refuses to be differentiated.

    Args:
        op: the public function's name, for the message.
    """

    def decorate(backward: Callable[..., Gradients]) -> Callable[..., Gradients]:
        @functools.wraps(backward)
        def derived(ctx: Any, *gradients: Tensor | None) -> Gradients:
            if not torch.is_grad_enabled():
                return backward(ctx, *gradients)
            with torch.no_grad():
                found = backward(ctx, *gradients)
            return tuple(
                None if g is None else _Refusal.apply(g.detach().requires_grad_(), op)
                for g in found
            )

        return derived

    return decorate
