"""adam on the CPU: the launcher of ``native/adam.cpp``."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

from torch import Tensor

from fastinfogan.kernels.adam.layout import ALIGN, offsets
from fastinfogan.kernels.dispatch import NATIVE, NATIVE_DTYPES, address


def adam(
    params: Tensor,
    grads: Sequence[Tensor],
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    step: Tensor,
    lr: Tensor,
    copy: Tensor | None,
    inverse_scale: Tensor | None,
    found_inf: Tensor | None,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    """One step, in place."""
    if found_inf is not None and found_inf.item() != 0.0:
        return
    steps = Steps(params, grads, exp_avg, exp_avg_sq, step, lr, copy, beta1, beta2, eps)
    steps.next(1.0 if inverse_scale is None else inverse_scale.item())


class Steps:
    """Steps with tensors that lie in the same memory each time; arguments as ``adam``'s."""

    def __init__(
        self,
        params: Tensor,
        grads: Sequence[Tensor],
        exp_avg: Tensor,
        exp_avg_sq: Tensor,
        step: Tensor,
        lr: Tensor,
        copy: Tensor | None,
        beta1: float,
        beta2: float,
        eps: float,
    ) -> None:
        sizes = [g.numel() for g in grads]
        starts, total = offsets(sizes)
        # Columns of the segments, which the kernel reads by address.
        self._columns = (
            array("q", [g.data_ptr() for g in grads]),
            array("q", [NATIVE_DTYPES[g.dtype] for g in grads]),
            array("q", starts),
            array("q", sizes),
        )
        self._arguments = (
            NATIVE_DTYPES[params.dtype],
            params.data_ptr(),
            exp_avg.data_ptr(),
            exp_avg_sq.data_ptr(),
            address(copy),
            *(column.buffer_info()[0] for column in self._columns),
            len(sizes),
            total,
            ALIGN,
        )
        self._tensors = params, *grads, exp_avg, exp_avg_sq, copy  # which must not be freed
        self._step, self._lr = step, lr
        self._betas, self._eps = (beta1, beta2), eps

    def next(self, inverse_scale: float = 1.0) -> None:
        """One step, in place, with gradients times a factor."""
        t = self._step.item() + 1
        beta1, beta2 = self._betas
        NATIVE.adam(
            *self._arguments,
            inverse_scale,
            beta1,
            beta2,
            self._eps,
            self._lr.item() / (1.0 - beta1**t),
            1.0 / math.sqrt(1.0 - beta2**t),
        )
        self._step.fill_(t)
