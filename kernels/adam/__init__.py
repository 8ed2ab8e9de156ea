"""Adam (AdamW) over the flat buffer that holds a network's parameters.

With the gradient g, the moments m and v, the number of steps t (this one counted), the decoupled
weight decay w and, where gradients come scaled, the inverse of their scale s:

    g <- s g
    m <- m + (1 - beta1) (g - m)              v <- beta2 v + (1 - beta2) g^2
    p <- p - lr w p - lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps)

All in place, in one pass over memory that also writes the bfloat16 or float16 copy of p that the
next forward pass reads. It is memory that takes the time: p, m and v are read and written, g is
read, the copy written.

Gradients stay the tensors that autograd hands out. Each belongs to a *segment* of the flat buffer;
segments begin at multiples of ALIGN, so that a block of numbers has one gradient, and a vector of
them the right address.

(Kingma and Ba 2015, algorithm 1, with the bias corrections moved as in section 2, and eps beside
the corrected root, as in torch; Loshchilov and Hutter 2019, algorithm 2, for the weight decay.)
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fastinfogan.kernels.dispatch import NATIVE, NATIVE_DTYPES, Impl, choose, op, register
from fastinfogan.kernels.triton_module import jit, launch, tl

ALIGN = 1024  # numbers; segments of the flat buffer begin at multiples of it


def offsets(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Where segments of these sizes begin in the flat buffer, and the numbers that it must have."""
    starts, total = [], 0
    for size in sizes:
        starts.append(total)
        total += -(-size // ALIGN) * ALIGN
    return starts, total


def adam_reference(
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
    weight_decay: float = 0.0,
    copy: Tensor | None = None,
    inverse_scale: Tensor | None = None,
    found_inf: Tensor | None = None,
) -> None:
    """One step of Adam in plain torch; arguments as ``adam``'s."""
    skip = None if found_inf is None else found_inf.reshape(()) != 0
    # Tensors of no dimension promote no others.
    t, lr = step.reshape(()) + 1, lr.reshape(()).to(params.dtype)
    bias1, bias2 = (1.0 - beta ** t.double() for beta in (beta1, beta2))

    def write(target: Tensor, value: Tensor) -> None:
        target.copy_(value if skip is None else torch.where(skip, target, value.to(target.dtype)))

    for grad, start in zip(grads, offsets([g.numel() for g in grads])[0], strict=True):
        here = slice(start, start + grad.numel())
        p, m, v = params[here], exp_avg[here], exp_avg_sq[here]
        g = grad.as_strided((grad.numel(),), (1,)).to(params.dtype)
        if inverse_scale is not None:
            g = g * inverse_scale
        new_m = torch.lerp(m, g, 1.0 - beta1)
        new_v = beta2 * v + (1.0 - beta2) * g * g
        change = lr / bias1 * (new_m / (new_v.sqrt() / bias2.sqrt() + eps))
        new_p = p - lr * weight_decay * p - change
        for target, value in ((p, new_p), (m, new_m), (v, new_v)):
            write(target, value)
        if copy is not None:
            write(copy[here], new_p)
    write(step, t.reshape(step.shape))


# -- Triton --------------------------------------------------------------------------------------


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
    weight_decay,
    STARTS: tl.constexpr,  # of each segment
    SIZES: tl.constexpr,  # of each segment
    BLOCK: tl.constexpr,
):
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
        # The padding is there to be read and written: zeros, which stay so.
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
        change = lr / bias1 * (m / (tl.sqrt_rn(v) * (1.0 / tl.sqrt_rn(bias2)) + eps))
        p -= lr * weight_decay * p + change
        tl.store(params_ptr + at, p)
        tl.store(exp_avg_ptr + at, m)
        tl.store(exp_avg_sq_ptr + at, v)
        if copy_ptr is not None:
            tl.store(copy_ptr + at, p.to(copy_ptr.dtype.element_ty))


# -- Launchers -----------------------------------------------------------------------------------


def _triton_adam(
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
    weight_decay: float,
) -> None:
    sizes = tuple(g.numel() for g in grads)
    starts, total = offsets(sizes)
    launch(
        _adam_kernel,
        (total // ALIGN,),
        *(params, tuple(grads), exp_avg, exp_avg_sq, step, lr, copy, inverse_scale, found_inf),
        *(_log(beta1), _log(beta2), 1.0 - beta1, 1.0 - beta2, beta2, eps, weight_decay),
        STARTS=tuple(starts),
        SIZES=sizes,
        BLOCK=ALIGN,
        num_warps=4,
    )


def _log(beta: float) -> float:
    return math.log(max(beta, _TINY))  # of 0 as well: _TINY^t is as good as 0


_TINY = torch.finfo(torch.float32).tiny
_TRITON_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def _native_adam(
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
    weight_decay: float,
) -> None:
    if found_inf is not None and found_inf.item() != 0.0:
        return
    t, rate = step.item() + 1, lr.item()
    sizes = [g.numel() for g in grads]
    starts, total = offsets(sizes)
    segments = [
        array("q", numbers)
        for numbers in (
            [g.data_ptr() for g in grads],
            [NATIVE_DTYPES[g.dtype] for g in grads],
            starts,
            sizes,
        )
    ]
    NATIVE.adam(
        NATIVE_DTYPES[params.dtype],
        *(params.data_ptr(), exp_avg.data_ptr(), exp_avg_sq.data_ptr()),
        0 if copy is None else copy.data_ptr(),
        *(column.buffer_info()[0] for column in segments),
        *(len(sizes), total, ALIGN),
        1.0 if inverse_scale is None else inverse_scale.item(),
        *(beta1, beta2, eps),
        rate * weight_decay,
        rate / (1.0 - beta1**t),
        1.0 / math.sqrt(1.0 - beta2**t),
    )
    step.fill_(t)


# -- Registration --------------------------------------------------------------------------------


def _fake_adam(impl: Impl) -> Callable[..., None]:
    return lambda *arguments: None


register(
    "adam(Tensor(a!) params, Tensor[] grads, Tensor(b!) exp_avg, Tensor(c!) exp_avg_sq, "
    "Tensor(d!) step, Tensor lr, Tensor(e!)? copy, Tensor? inverse_scale, Tensor? found_inf, "
    "float beta1, float beta2, float eps, float weight_decay) -> ()",
    native=_native_adam,
    triton=_triton_adam,
    fake=_fake_adam,
)


# -- The op --------------------------------------------------------------------------------------


@torch.no_grad()
def adam(
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
    weight_decay: float = 0.0,
    copy: Tensor | None = None,
    inverse_scale: Tensor | None = None,
    found_inf: Tensor | None = None,
    impl: Impl = "auto",
) -> None:
    """One step of Adam, in place, in one pass over memory.

    Args:
        params: (n,) contiguous, float32 or float64: the segments of ``offsets``, zeros in between.
        grads: the gradient of each segment, in their order; float32, bfloat16 or float16 each
            (float64 if ``params`` is), of any shape, without gaps in memory. Its numbers are taken
            in the order of memory, and so must be the segment's.
        exp_avg, exp_avg_sq: like ``params``: the moments m and v, zeros at first.
        step: () or (1,), int64: the number of steps done, which goes up by one.
        lr: () or (1,), float32 (float64 does if ``params`` is): the learning rate. Its value is
            not checked: that would wait for the device.
        beta1, beta2: decay of the moments, 0 to below 1.
        eps: added to the root; above 0, so that the zeros in between stay zeros.
        weight_decay: decoupled, as AdamW's; 0 or more.
        copy: (n,) contiguous, bfloat16 or float16, or None: gets the updated parameters. Needs
            ``params`` of float32.
        inverse_scale: () or (1,), float32, or None: gradients are multiplied by it.
        found_inf: () or (1,), float32, or None: where it isn't 0, nothing changes.
        impl: see ``dispatch.choose``. native has no float16.

    Raises:
        ValueError: an argument is off: the message names it.
        RuntimeError: ``impl`` can't run here.
    """
    _check_flat(params, exp_avg, exp_avg_sq, copy)
    _check_scalars(params, step, lr, inverse_scale, found_inf, beta1, beta2, eps, weight_decay)
    _check_grads(params, grads)
    # float16 is what an implementation may not have.
    halves = [t for t in (copy, *grads) if t is not None and t.dtype == torch.float16]
    decides = halves[0] if halves else params
    impl = choose("adam", impl, decides, native=NATIVE_DTYPES, triton=_TRITON_DTYPES)
    if impl == "reference":
        adam_reference(
            *(params, grads, exp_avg, exp_avg_sq, step, lr),
            beta1=beta1,
            beta2=beta2,
            eps=eps,
            weight_decay=weight_decay,
            copy=copy,
            inverse_scale=inverse_scale,
            found_inf=found_inf,
        )
        return
    op("adam", impl, params)(
        *(params, grads, exp_avg, exp_avg_sq, step, lr, copy, inverse_scale, found_inf),
        *(beta1, beta2, eps, weight_decay),
    )


def _check_flat(params: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, copy: Tensor | None) -> None:
    if params.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"adam: params is {params.dtype}; float32 and float64 work")
    if params.dim() != 1 or not 0 < params.numel() < 2**31:
        raise ValueError(f"adam: params is {tuple(params.shape)}; (n,) with 0 < n < 2^31 works")
    for name, flat in (
        ("params", params),
        ("exp_avg", exp_avg),
        ("exp_avg_sq", exp_avg_sq),
        ("copy", copy),
    ):
        if flat is None:
            continue
        if name != "copy" and flat.dtype != params.dtype:
            raise ValueError(f"adam: {name} is {flat.dtype}; it must be {params.dtype}, as params")
        if flat.shape != params.shape:
            raise ValueError(
                f"adam: {name} is {tuple(flat.shape)}; it must be {tuple(params.shape)}, as params"
            )
        if flat.device != params.device:
            raise ValueError(f"adam: {name} is on {flat.device}, and params on {params.device}")
        if not flat.is_contiguous():
            raise ValueError(f"adam: {name} has stride {flat.stride(0)}; it must have 1")
    if copy is not None and copy.dtype not in (torch.bfloat16, torch.float16):
        raise ValueError(f"adam: copy is {copy.dtype}; bfloat16 and float16 work")
    if copy is not None and params.dtype != torch.float32:
        raise ValueError(f"adam: copy needs params of float32, and they are {params.dtype}")


def _check_scalars(
    params: Tensor,
    step: Tensor,
    lr: Tensor,
    inverse_scale: Tensor | None,
    found_inf: Tensor | None,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> None:
    for name, scalar, dtypes in (
        ("step", step, (torch.int64,)),
        ("lr", lr, (torch.float32, params.dtype)),
        ("inverse_scale", inverse_scale, (torch.float32,)),
        ("found_inf", found_inf, (torch.float32,)),
    ):
        if scalar is None:
            continue
        if scalar.dtype not in dtypes:
            raise ValueError(f"adam: {name} is {scalar.dtype}; it must be {dtypes[0]}")
        if scalar.dim() > 1 or scalar.numel() != 1:
            raise ValueError(f"adam: {name} is {tuple(scalar.shape)}; () and (1,) work")
        if scalar.device != params.device:
            raise ValueError(f"adam: {name} is on {scalar.device}, and params on {params.device}")
    for name, beta in (("beta1", beta1), ("beta2", beta2)):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"adam: {name}={beta}; 0 to below 1 work")
    if not _TINY <= eps < math.inf:
        raise ValueError(f"adam: eps={eps}; {_TINY:.2g} or more works")
    if not 0.0 <= weight_decay < math.inf:
        raise ValueError(f"adam: weight_decay={weight_decay}; 0 or more works")


def _check_grads(params: Tensor, grads: Sequence[Tensor]) -> None:
    if not grads:
        raise ValueError("adam: grads is empty; it needs one gradient or more")
    double = params.dtype == torch.float64
    for i, grad in enumerate(grads):
        if grad.dtype not in ((torch.float64,) if double else _TRITON_DTYPES):
            works = "float64 works" if double else "float32, bfloat16 and float16 work"
            raise ValueError(
                f"adam: grads[{i}] is {grad.dtype}; with params of {params.dtype} {works}"
            )
        if grad.device != params.device:
            raise ValueError(f"adam: grads[{i}] is on {grad.device}, and params on {params.device}")
        if grad.numel() == 0:
            raise ValueError(f"adam: grads[{i}] is {tuple(grad.shape)}; it must not be empty")
        if not (grad.is_contiguous() or _is_dense(grad)):
            raise ValueError(
                f"adam: grads[{i}] has strides {grad.stride()} and shape {tuple(grad.shape)}; it "
                "must fill its memory without gaps or overlaps, in the order of its segment"
            )
    total = offsets([g.numel() for g in grads])[1]
    if total != params.numel():
        raise ValueError(
            f"adam: grads fill segments of {total} numbers in all, and params has "
            f"{params.numel()}; see adam.offsets"
        )


def _is_dense(tensor: Tensor) -> bool:
    """Whether the tensor is a permutation of a contiguous one."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size == 1:  # its stride is never used
            continue
        if stride != expected:
            return False
        expected *= size
    return True
