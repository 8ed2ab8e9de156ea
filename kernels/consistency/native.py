"""consistency on a CPU: the launcher of native/consistency.cpp."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastinfogan.kernels.consistency.layout import Results, empty_results, table_on_device
from fastinfogan.kernels.dispatch import NATIVE, NATIVE_DTYPES

_CPU = torch.device("cpu")


def consistency(
    q_image: Tensor,
    q_copy: Tensor,
    kinds: Sequence[int],
    widths: Sequence[int],
    seed: Tensor | None = None,
) -> Results:
    """Loss and gradient as a registered op, on a CPU; kinds and widths as in ``Table.terms``."""
    table = table_on_device(tuple(kinds), tuple(widths), _CPU, stream=0)
    loss, grads = empty_results(q_image, q_copy, kinds, widths)
    rows, columns = q_copy.shape
    NATIVE.consistency(
        NATIVE_DTYPES[q_copy.dtype],
        rows,
        columns,
        len(kinds),
        # Parts are a function of the shape alone: results don't depend on the number of threads.
        1 if rows * columns < 1 << 15 else min(16, rows),
        q_image.data_ptr(),
        q_copy.data_ptr(),
        table.terms.data_ptr(),
        grads.data_ptr(),
        loss.data_ptr(),
    )
    if seed is not None:
        grads = torch.mul(grads, seed, out=torch.empty_like(grads, dtype=q_copy.dtype))
    return loss, grads
