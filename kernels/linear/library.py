"""linear by libraries on a CPU: forward oneDNN's, which torch asks only in half precision."""

from __future__ import annotations

import torch
from torch import Tensor

from fastinfogan.kernels.once import once

# What torch.compile makes of a layer on a CPU; None: this torch was built without oneDNN.
_ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
HAS_ONEDNN = _ONEDNN is not None


class OneDnnLinearFunction(torch.autograd.Function):
    """Keeps x only for gradients of the weight; going back both products are torch's own."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        wants_parameters = any(ctx.needs_input_grad[1:])
        ctx.save_for_backward(x if wants_parameters else None, weight)
        return _ONEDNN(x, weight, bias, "none", [], "")

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
