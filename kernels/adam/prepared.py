"""Adam's steps with gradients that lie in the same memory each time: all is checked beforehand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastinfogan.kernels.adam.arguments import check
from fastinfogan.kernels.adam.native import Steps


class Prepared:
    """``adam`` on the CPU, step after step; arguments as its.

    Raises:
        ValueError: an argument is off: the message names it.
    """

    def __init__(
        self,
        params: Tensor,
        grads: Sequence[Tensor],
        exp_avg: Tensor,
        exp_avg_sq: Tensor,
        step: Tensor,
        lr: Tensor,
        *,
        beta1: float,
        beta2: float,
        eps: float,
    ) -> None:
        check(params, grads, exp_avg, exp_avg_sq, step, lr, beta1, beta2, eps, None, None, None)
        self._steps = Steps(params, grads, exp_avg, exp_avg_sq, step, lr, None, beta1, beta2, eps)

    @torch.no_grad()
    def __call__(self) -> None:
        """One step, in place."""
        self._steps.next()
