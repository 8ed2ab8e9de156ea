"""mi_loss on a GPU: the Triton kernel of all three losses and its launcher."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastinfogan.kernels.codes import HALF_LOG_TWO_PI, KINDS, LOG_SIGMA_BOUND
from fastinfogan.kernels.mi_loss.layout import Results, empty_results, table_on_device
from fastinfogan.kernels.triton_math import softplus
from fastinfogan.kernels.triton_module import await_previous, constexpr, jit, launch, tl
from fastinfogan.kernels.triton_needs import power_of_two

_CATEGORICAL = constexpr(KINDS["categorical"].number)
_UNIFORM = constexpr(KINDS["uniform"].number)
_GAUSSIAN = constexpr(KINDS["gaussian"].number)
_BERNOULLI = constexpr(KINDS["bernoulli"].number)


@jit
def _mi_loss_kernel(
    q_params_ptr,  # (rows, columns), any float
    logits_ptr,  # (rows,) or (2, rows): real, fake; like q_params; or None
    values_ptr,  # (rows, terms - 1) float32
    table_ptr,  # (terms, 3) int32: kind of code or 0, first column, width
    weights_ptr,  # (terms,) float32
    counter_ptr,  # (1,) int32: 0 between launches
    partials_ptr,  # (parts, terms) float32: sums over a part of the rows
    seed_ptr,  # (1,) float32: what gradients are multiplied by; or None
    grads_ptr,  # (rows * columns + logits,) float32, or like q_params
    means_ptr,  # (terms,) float32
    total_ptr,  # (1,) float32
    tally_ptr,  # (terms + 1,) float64: what D's adversarial term, G's and the NLLs add to; or None
    rows,
    columns,
    terms,
    LOG_SIGMA_BOUND: tl.constexpr,
    HALF_LOG_TWO_PI: tl.constexpr,
    BOTH: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
    BLOCK_TERMS: tl.constexpr,
    EARLY: tl.constexpr,
):
    """One program per term and part of the rows; the last to finish adds the parts up, in order."""
    await_previous(EARLY)
    part, term = tl.program_id(0), tl.program_id(1)
    kind = tl.load(table_ptr + 3 * term)
    first = tl.load(table_ptr + 3 * term + 1)
    width = tl.load(table_ptr + 3 * term + 2)
    batch = (rows * tl.full((), 1, tl.int32)).to(tl.float32)  # a batch of 1 is a constant
    scale = tl.load(weights_ptr + term) / batch
    if seed_ptr is not None:
        scale *= tl.load(seed_ptr)
    dtype: tl.constexpr = grads_ptr.dtype.element_ty
    row = part * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    inside = row < rows
    at = row.to(tl.int64) * columns + first
    nll = tl.zeros((BLOCK_ROWS,), tl.float32)
    value = tl.zeros((BLOCK_ROWS,), tl.float32)
    if term > 0:
        value += tl.load(values_ptr + row * (terms - 1) + (term - 1), mask=inside, other=0.0)
    if kind == _CATEGORICAL:
        column = tl.arange(0, BLOCK_COLUMNS)
        here = (column < width)[None, :]
        mask = inside[:, None] & here
        tile = at[:, None] + column[None, :]
        l = tl.load(q_params_ptr + tile, mask=mask, other=0.0).to(tl.float32)  # noqa: E741
        l = tl.where(here, l, float("-inf"))  # noqa: E741
        largest = tl.max(l, 1)
        e = tl.exp(l - largest[:, None])
        total = tl.sum(e, 1)
        chosen = column[None, :].to(tl.float32) == value[:, None]
        # No column is that of a NaN, a fraction or an index out of range: 0 / 0.
        count = tl.sum(tl.where(chosen & here, 1.0, 0.0), 1)
        distance = largest - tl.sum(tl.where(chosen & here, l, 0.0), 1)
        valid = (count / count)[:, None]
        nll += (tl.log(total) + distance) * (count / count)
        d = e / total[:, None] - tl.where(chosen, valid, 0.0)
        tl.store(grads_ptr + tile, (scale * d * valid).to(dtype), mask=mask)
    if (kind == _UNIFORM) | (kind == _GAUSSIAN):  # sigma is learned where there are two columns
        m = tl.load(q_params_ptr + at, mask=inside, other=0.0).to(tl.float32)
        learned = tl.where(width == 2, inside, False)
        s = tl.load(q_params_ptr + at + 1, mask=learned, other=0.0).to(tl.float32)
        # b tanh(s / b), with tanh(x) = (1 - e^-2x) / (1 + e^-2x); 0 where s isn't there
        e = tl.exp(tl.abs(s) * (-2.0 / LOG_SIGMA_BOUND))
        magnitude = (1.0 - e) / (1.0 + e)
        log_sigma = LOG_SIGMA_BOUND * tl.where(s < 0.0, -magnitude, magnitude)
        inverse = tl.exp(-log_sigma)
        error = (value - m) * inverse
        nll += 0.5 * error * error + log_sigma + HALF_LOG_TWO_PI
        tl.store(grads_ptr + at, (-scale * error * inverse).to(dtype), mask=inside)
        slope = 1.0 - magnitude * magnitude
        slope = scale * (1.0 - error * error) * slope
        tl.store(grads_ptr + at + 1, slope.to(dtype), mask=learned)
    if kind == _BERNOULLI:
        logit = tl.load(q_params_ptr + at, mask=inside, other=0.0).to(tl.float32)
        loss, sigmoid = softplus(-logit)
        nll += loss + (1.0 - value) * logit  # softplus(l) - c l without its cancellation for c = 1
        tl.store(grads_ptr + at, (scale * ((1.0 - value) - sigmoid)).to(dtype), mask=inside)
    if logits_ptr is not None:
        if term == 0:  # adversarial
            logit = tl.load(logits_ptr + row, mask=inside, other=0.0).to(tl.float32)
            loss, sigmoid = softplus(-logit)
            nll += loss
            logit_grads_ptr = grads_ptr + tl.cast(rows, tl.int64) * columns + row
            tl.store(logit_grads_ptr, (-scale * sigmoid).to(dtype), mask=inside)
            if BOTH:
                logit = tl.load(logits_ptr + rows + row, mask=inside, other=0.0).to(tl.float32)
                loss, sigmoid = softplus(logit)
                nll += loss
                tl.store(logit_grads_ptr + rows, (scale * sigmoid).to(dtype), mask=inside)
    tl.store(partials_ptr + part * terms + term, tl.sum(tl.where(inside, nll, 0.0), 0))

    parts = tl.num_programs(0)
    tl.debug_barrier()  # all of this program's stores come before its ticket
    ticket = tl.atomic_add(counter_ptr, 1, sem="acq_rel")
    if ticket == parts * tl.num_programs(1) - 1:
        index = tl.arange(0, BLOCK_TERMS)
        present = index < terms
        sums = tl.zeros((BLOCK_TERMS,), tl.float32)
        for start in range(0, parts, BLOCK_PARTS):
            p = start + tl.arange(0, BLOCK_PARTS)
            mask = (p < parts)[:, None] & present[None, :]
            tile = partials_ptr + p[:, None] * terms + index[None, :]
            sums += tl.sum(tl.load(tile, mask=mask, other=0.0), 0)
        means = sums / batch
        tl.store(means_ptr + index, means, mask=present)
        weights = tl.load(weights_ptr + index, mask=present, other=0.0)
        tl.store(total_ptr, tl.sum(tl.where(present, weights * means, 0.0), 0))
        if tally_ptr is not None:
            place = tl.where(index > 0, index + 1, 0 if BOTH else 1)
            counted = present if BOTH else index == 0
            before = tl.load(tally_ptr + place, mask=counted, other=0.0)
            tl.store(tally_ptr + place, before + means.to(tl.float64), mask=counted)
        tl.store(counter_ptr, 0)


def blocks_of(kinds: Sequence[int], widths: Sequence[int]) -> dict[str, int]:
    """Tiles of 128 numbers, one in each of 128 threads: little work, which waits for itself.

    A row of logits is never cut.
    """
    categorical = KINDS["categorical"].number
    categories = [w for k, w in zip(kinds, widths, strict=True) if k == categorical]
    block_columns = power_of_two(max([16, *categories]))
    block_terms = power_of_two(1 + len(kinds))
    return {
        "BLOCK_ROWS": max(1, 128 // block_columns),
        "BLOCK_COLUMNS": block_columns,
        "BLOCK_PARTS": max(1, 1024 // block_terms),
        "BLOCK_TERMS": block_terms,
        "num_warps": 4,
        "maxnreg": 128,  # else a compiler may spill some to fit 64
    }


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
    """The three losses as one registered op, on a GPU or interpreted; see ``arguments.Terms``."""
    device = q_params.device
    stream = torch.cuda.current_stream(device).cuda_stream if q_params.is_cuda else 0
    table = table_on_device(
        tuple(kinds), tuple(widths), tuple(weights), torch.float32, device, stream
    )
    total, means, grads = empty_results(logits, q_params, values, kinds, widths, weights, seed)
    rows, columns = q_params.shape
    blocks = blocks_of(kinds, widths)
    parts, terms = -(-rows // blocks["BLOCK_ROWS"]), 1 + len(kinds)
    partials = q_params.new_empty((parts, terms), dtype=torch.float32)
    launch(
        _mi_loss_kernel,
        (parts, terms),
        q_params,
        logits,
        values,
        table.terms,
        table.weights,
        table.counter,
        partials,
        seed,
        grads,
        means,
        total,
        tally,
        rows,
        columns,
        terms,
        LOG_SIGMA_BOUND=LOG_SIGMA_BOUND,
        HALF_LOG_TWO_PI=HALF_LOG_TWO_PI,
        BOTH=logits is not None and logits.shape[0] > rows,
        **blocks,
    )
    return total, means, grads
