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
    t = step.item() + 1
    sizes = [g.numel() for g in grads]
    starts, total = offsets(sizes)
    # Columns of the segments, which must outlive the call that reads them by address.
    addresses = array("q", [g.data_ptr() for g in grads])
    dtypes = array("q", [NATIVE_DTYPES[g.dtype] for g in grads])
    starts, sizes = array("q", starts), array("q", sizes)
    NATIVE.adam(
        NATIVE_DTYPES[params.dtype],
        params.data_ptr(),
        exp_avg.data_ptr(),
        exp_avg_sq.data_ptr(),
        address(copy),
        addresses.buffer_info()[0],
        dtypes.buffer_info()[0],
        starts.buffer_info()[0],
        sizes.buffer_info()[0],
        len(sizes),
        total,
        ALIGN,
        1.0 if inverse_scale is None else inverse_scale.item(),
        beta1,
        beta2,
        eps,
        lr.item() / (1.0 - beta1**t),
        1.0 / math.sqrt(1.0 - beta2**t),
    )
    step.fill_(t)
