"""mi_loss on the CPU: the launcher of ``native/mi_loss.cpp``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastinfogan.kernels.codes import HALF_LOG_TWO_PI, LOG_SIGMA_BOUND
from fastinfogan.kernels.dispatch import NATIVE, NATIVE_DTYPES, accumulator, address
from fastinfogan.kernels.mi_loss.arguments import no_category
from fastinfogan.kernels.mi_loss.layout import Results, add_to, empty_results, table_on_device

_CPU = torch.device("cpu")


def mi_loss(
    logits: Tensor | None,
    q_params: Tensor,
    values: Tensor,
    kinds: Sequence[int],
    widths: Sequence[int],
    weights: Sequence[float],
    seed: Tensor | None = None,
    tally: Tensor | None = None,
) -> Results:
    """The three losses as one registered op, on the CPU; see ``arguments.Terms``.

    Raises:
        ValueError: a category isn't one.
    """
    dtype = accumulator(q_params.dtype)
    table = table_on_device(tuple(kinds), tuple(widths), tuple(weights), dtype, _CPU, stream=0)
    total, means, grads = empty_results(logits, q_params, values, kinds, widths, weights)
    rows, columns = q_params.shape
    bad = NATIVE.mi_loss(
        NATIVE_DTYPES[q_params.dtype],
        rows,
        columns,
        0 if logits is None else logits.shape[0],
        1 + len(kinds),
        # Parts are a function of the shape alone: results don't depend on the number of threads.
        1 if rows * columns < 1 << 15 else min(16, rows),
        LOG_SIGMA_BOUND,
        HALF_LOG_TWO_PI,
        address(logits),
        q_params.data_ptr(),
        values.data_ptr(),
        table.terms.data_ptr(),
        table.weights.data_ptr(),
        grads.data_ptr(),
        means.data_ptr(),
        total.data_ptr(),
    )
    if bad >= 0:
        name = "mi_loss" if logits is None else "g_loss" if logits.shape[0] == rows else "d_loss"
        raise no_category(name, values, bad, widths)
    if seed is not None:
        grads = torch.mul(grads, seed, out=torch.empty_like(grads, dtype=q_params.dtype))
    if tally is not None:
        add_to(tally, means, logits.shape[0] > rows)
    return total, means, grads
