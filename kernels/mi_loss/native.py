"""mi_loss on the CPU: the launcher of ``native/mi_loss.cpp``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    total, means, grads = empty_results(logits, q_params, values, kinds, widths, weights)
    launcher(logits, q_params, kinds, widths, weights, grads)(values, means, total)
    if seed is not None:
        grads = torch.mul(grads, seed, out=torch.empty_like(grads, dtype=q_params.dtype))
    if tally is not None:
        add_to(tally, means, logits.shape[0] > q_params.shape[0])
    return total, means, grads


def launcher(
    logits: Tensor | None,
    q_params: Tensor,
    kinds: Sequence[int],
    widths: Sequence[int],
    weights: Sequence[float],
    grads: Tensor,
) -> Callable[[Tensor, Tensor, Tensor], None]:
    """What of a call doesn't change while its inputs and gradients lie where they lie.

    Args:
        logits, q_params, kinds, widths, weights: as the op has them.
        grads: as ``layout.empty_results`` has them.

    Returns:
        The call, of values, means and the total. It raises ValueError where a category isn't one.
    """
    dtype = accumulator(q_params.dtype)
    table = table_on_device(tuple(kinds), tuple(widths), tuple(weights), dtype, _CPU, stream=0)
    rows, columns = q_params.shape
    inputs = (
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
    )
    known = table.terms.data_ptr(), table.weights.data_ptr(), grads.data_ptr()

    def launch(values: Tensor, means: Tensor, total: Tensor) -> None:
        bad = NATIVE.mi_loss(*inputs, values.data_ptr(), *known, means.data_ptr(), total.data_ptr())
        if bad >= 0:
            d_or_g = None if logits is None else logits.shape[0] > rows
            name = {None: "mi_loss", False: "g_loss", True: "d_loss"}[d_or_g]
            raise no_category(name, values, bad, widths)

    return launch
