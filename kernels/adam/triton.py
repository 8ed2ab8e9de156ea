"""adam on a GPU: the Triton kernel and its launcher. The mathematics is in the package."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fastinfogan.kernels.adam.layout import ALIGN, offsets
from fastinfogan.kernels.triton_module import await_previous, jit, launch, tl


@jit
def _bias_correction(t, log_beta, TERMS: tl.constexpr):
    """1 - beta^t as -expm1(t log beta), in float32, to a few roundings.

    (float64, which would do without the series, is 64 times slower on most GPUs.)
    """
    x = t * log_beta
    y = tl.maximum(x, -0.5)  # below, 1 - exp(x) loses no digits
    series = y * 0.0 + 1.0
    for i in tl.static_range(TERMS - 1):
        series = 1.0 + y / (TERMS - i) * series
    return tl.where(x < -0.5, 1.0 - tl.exp(x), -y * series)


@jit
def _adam_kernel(
    params_ptr,  # (n,) float32
    grads,  # a pointer per segment: (size,) any float
    exp_avg_ptr,  # (n,) float32
    exp_avg_sq_ptr,  # (n,) float32
    step_ptr,  # (1,) int64
    lr_ptr,  # (1,) float32
    copy_ptr,  # (n,) bfloat16 or float16, or None
    inverse_scale_ptr,  # (1,) float32, or None
    found_inf_ptr,  # (1,) float32, or None
    log_beta1,
    log_beta2,
    weight1,  # 1 - beta1, which float32 would not get right from beta1
    weight2,  # 1 - beta2
    beta2,
    eps,
    STARTS: tl.constexpr,  # of each segment
    SIZES: tl.constexpr,  # of each segment
    BLOCK: tl.constexpr,
    EARLY: tl.constexpr,
):
    await_previous(EARLY)
    run = True
    if found_inf_ptr is not None:
        run = tl.load(found_inf_ptr) == 0.0
    if run:
        first = tl.program_id(0) * BLOCK
        lane = tl.arange(0, BLOCK)
        g = tl.zeros((BLOCK,), tl.float32)
        for i in tl.static_range(len(SIZES)):
            if (first >= STARTS[i]) & (first < STARTS[i] + SIZES[i]):
                # Where SIZES[i] is a multiple of 16, so are the mask's borders: vectors are loaded.
                at = first - STARTS[i] + lane
                g = tl.load(grads[i] + at, mask=at < SIZES[i], other=0.0).to(tl.float32)
        at = first + lane
        # The padding is read and written too: zeros, which stay zeros.
        p = tl.load(params_ptr + at)
        m = tl.load(exp_avg_ptr + at)
        v = tl.load(exp_avg_sq_ptr + at)
        lr = tl.load(lr_ptr)
        # The upper half of `step` counts the programs that have read it: each adds one, once all
        # its threads have the lower half, and the last writes the new number of steps.
        t = (tl.load(step_ptr) & 0xFFFFFFFF) + 1
        tl.debug_barrier()
        ticket = tl.atomic_add(step_ptr, 1 << 32)
        if (ticket >> 32) == tl.num_programs(0) - 1:
            tl.store(step_ptr, t)
        if inverse_scale_ptr is not None:
            g *= tl.load(inverse_scale_ptr)
        m += weight1 * (g - m)
        v = beta2 * v + weight2 * g * g
        bias1 = _bias_correction(t.to(tl.float32), log_beta1, TERMS=9)
        bias2 = _bias_correction(t.to(tl.float32), log_beta2, TERMS=9)
        # + 0, so that it is rounded before it is subtracted: checkpoints go on with the same bits.
        change = lr / bias1 * (m / (tl.sqrt_rn(v) * (1.0 / tl.sqrt_rn(bias2)) + eps)) + 0.0
        p -= change
        tl.store(params_ptr + at, p)
        tl.store(exp_avg_ptr + at, m)
        tl.store(exp_avg_sq_ptr + at, v)
        if copy_ptr is not None:
            tl.store(copy_ptr + at, p.to(copy_ptr.dtype.element_ty))


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
    sizes = tuple(g.numel() for g in grads)
    starts, total = offsets(sizes)
    launch(
        _adam_kernel,
        (total // ALIGN,),
        params,
        tuple(grads),
        exp_avg,
        exp_avg_sq,
        step,
        lr,
        copy,
        inverse_scale,
        found_inf,
        _log(beta1),
        _log(beta2),
        1.0 - beta1,
        1.0 - beta2,
        beta2,
        eps,
        STARTS=tuple(starts),
        SIZES=sizes,
        BLOCK=ALIGN,
        num_warps=4,
    )


def _log(beta: float) -> float:
    tiny = torch.finfo(torch.float32).tiny
    return math.log(max(beta, tiny))  # of 0 as well: tiny^t is as good as 0
