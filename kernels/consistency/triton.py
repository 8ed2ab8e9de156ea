"""consistency on a GPU: the Triton kernel and its launcher."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastinfogan.kernels.codes import KINDS
from fastinfogan.kernels.consistency.layout import Results, empty_results, table_on_device
from fastinfogan.kernels.triton_math import softplus
from fastinfogan.kernels.triton_module import await_previous, constexpr, jit, launch, tl
from fastinfogan.kernels.triton_needs import power_of_two

_CATEGORICAL = constexpr(KINDS["categorical"].number)
_BERNOULLI = constexpr(KINDS["bernoulli"].number)


@jit
def _softmax(logits_ptr, tile, mask, here):
    """A row's softmax over the columns ``here``: logits minus the largest, sum of exp, result."""
    logits = tl.load(logits_ptr + tile, mask=mask, other=0.0).to(tl.float32)
    largest = tl.max(tl.where(here, logits, float("-inf")), 1)
    shifted = logits - largest[:, None]
    e = tl.where(here, tl.exp(shifted), 0.0)
    total = tl.sum(e, 1)
    return shifted, total, e / total[:, None]


@jit
def _consistency_kernel(
    q_copy_ptr,  # (rows, columns), any float: logits of q
    q_image_ptr,  # like q_copy: logits of p
    table_ptr,  # (codes, 3) int32: kind of code or 0, first column, width
    counter_ptr,  # (1,) int32: 0 between launches
    partials_ptr,  # (parts, codes) float32: sums over a part of the rows
    seed_ptr,  # (1,) float32: what gradients are multiplied by; or None
    grads_ptr,  # (rows, columns) float32, or like q_copy
    loss_ptr,  # (1,) float32
    rows,
    columns,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    BLOCK_PARTIALS: tl.constexpr,
    EARLY: tl.constexpr,
):
    """One program per code and part of the rows; the last to finish adds the parts up, in order.

    Where both sides are the same, loss and gradient are set to 0: what is computed needn't be, for
    a compiler may fuse the last product of one side with the difference of both.
    """
    await_previous(EARLY)
    part, code = tl.program_id(0), tl.program_id(1)
    codes = tl.num_programs(1)
    kind = tl.load(table_ptr + 3 * code)
    first = tl.load(table_ptr + 3 * code + 1)
    width = tl.load(table_ptr + 3 * code + 2)
    batch = (rows * tl.full((), 1, tl.int32)).to(tl.float32)  # a batch of 1 is a constant
    row = part * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    inside = row < rows
    at = row.to(tl.int64) * columns + first
    column = tl.arange(0, BLOCK_COLUMNS)
    here = (column < width)[None, :]
    mask = inside[:, None] & here
    tile = at[:, None] + column[None, :]
    kl = tl.zeros((BLOCK_ROWS,), tl.float32)
    seed = tl.full((), 1.0, tl.float32)
    if seed_ptr is not None:
        seed = tl.load(seed_ptr)
    dtype: tl.constexpr = grads_ptr.dtype.element_ty
    if kind == _CATEGORICAL:
        shifted_p, sum_p, p = _softmax(q_image_ptr, tile, mask, here)
        shifted_q, sum_q, q = _softmax(q_copy_ptr, tile, mask, here)
        apart = tl.where(here, shifted_p - shifted_q, 0.0)
        differ = tl.max((apart != 0.0).to(tl.int32), 1) != 0
        distance = tl.sum(p * apart, 1)
        kl += tl.where(differ, distance + tl.log(sum_q / sum_p), 0.0)
        grads = tl.where(differ[:, None], (q - p) / batch * seed, 0.0)
        tl.store(grads_ptr + tile, grads.to(dtype), mask=mask)
    elif kind == _BERNOULLI:
        logit_p = tl.load(q_image_ptr + at, mask=inside, other=0.0).to(tl.float32)
        logit_q = tl.load(q_copy_ptr + at, mask=inside, other=0.0).to(tl.float32)
        differ = logit_p - logit_q != 0.0
        # -log p = softplus(-logit), -log(1 - p) = softplus(logit)
        ones_p, not_p = softplus(-logit_p)
        ones_q, _ = softplus(-logit_q)
        zeros_p, p = softplus(logit_p)
        zeros_q, q = softplus(logit_q)
        kl += tl.where(differ, p * (ones_q - ones_p) + not_p * (zeros_q - zeros_p), 0.0)
        grads = tl.where(differ, (q - p) / batch * seed, 0.0)
        tl.store(grads_ptr + at, grads.to(dtype), mask=inside)
    else:  # it takes no part, but has columns all the same, unless it isn't regularised
        tl.store(grads_ptr + tile, tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), dtype), mask=mask)
    kl = tl.where(inside & ~(kl < 0.0), kl, 0.0)  # rounding may go below 0
    tl.store(partials_ptr + part * codes + code, tl.sum(kl, 0))

    count = tl.num_programs(0) * codes
    tl.debug_barrier()  # all of this program's stores come before its ticket
    ticket = tl.atomic_add(counter_ptr, 1, sem="acq_rel")
    if ticket == count - 1:
        sums = tl.zeros((BLOCK_PARTIALS,), tl.float32)
        for start in range(0, count, BLOCK_PARTIALS):
            index = start + tl.arange(0, BLOCK_PARTIALS)
            sums += tl.load(partials_ptr + index, mask=index < count, other=0.0)
        tl.store(loss_ptr, tl.sum(sums, 0) / batch)
        tl.store(counter_ptr, 0)


def blocks_of(widths: Sequence[int]) -> dict[str, int]:
    """Tiles of 1,024 numbers, 8 in each of 128 threads; a row of logits is never cut."""
    block_columns = power_of_two(max(16, *widths))
    return {
        "BLOCK_ROWS": max(1, 1024 // block_columns),
        "BLOCK_COLUMNS": block_columns,
        "BLOCK_PARTIALS": 1024,
        "num_warps": 4,
    }


def consistency(
    q_image: Tensor,
    q_copy: Tensor,
    kinds: Sequence[int],
    widths: Sequence[int],
    seed: Tensor | None = None,
) -> Results:
    """Loss and gradient as a registered op, on a GPU or interpreted; see ``Table.terms``."""
    device = q_copy.device
    stream = torch.cuda.current_stream(device).cuda_stream if q_copy.is_cuda else 0
    table = table_on_device(tuple(kinds), tuple(widths), device, stream)
    loss, grads = empty_results(q_image, q_copy, kinds, widths, seed)
    rows, columns = q_copy.shape
    blocks = blocks_of(widths)
    parts = -(-rows // blocks["BLOCK_ROWS"])
    partials = q_copy.new_empty((parts, len(kinds)), dtype=torch.float32)
    launch(
        _consistency_kernel,
        (parts, len(kinds)),
        q_copy,
        q_image,
        table.terms,
        table.counter,
        partials,
        seed,
        grads,
        loss,
        rows,
        columns,
        **blocks,
    )
    return loss, grads
