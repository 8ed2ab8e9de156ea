"""Adam over the flat buffer that holds a network's parameters.

With the gradient g, the moments m and v, the number of steps t (this one counted) and, where
gradients come scaled, the inverse of their scale s:

    g <- s g
    m <- m + (1 - beta1) (g - m)              v <- beta2 v + (1 - beta2) g^2
    p <- p - lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps)

All in place, in one pass over memory that also writes the bfloat16 or float16 copy of p that the
next forward pass reads. It is memory that takes the time: p, m and v are read and written, g is
read, the copy written.

Gradients stay the tensors that autograd hands out. Each belongs to a *segment* of the flat buffer;
segments begin at multiples of ALIGN (``segments.py``), so that a block of numbers has one gradient,
and a vector of them the right address.

(Kingma and Ba 2015, algorithm 1, with the bias corrections moved as in section 2, and eps beside
the corrected root, as in torch.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

import fastinfogan.kernels.adam.registration  # noqa: F401  (registers what op() gives)
from fastinfogan.kernels.adam.segments import offsets
from fastinfogan.kernels.checks import check_dtype, check_same_device, check_shape, check_vector
from fastinfogan.kernels.dispatch import NATIVE_DTYPES, TRITON_DTYPES, Impl, choose, op


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
        new_p = p - change
        for target, value in ((p, new_p), (m, new_m), (v, new_v)):
            write(target, value)
        if copy is not None:
            write(copy[here], new_p)
    write(step, t.reshape(step.shape))


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
    _check_scalars(params, step, lr, inverse_scale, found_inf, beta1, beta2, eps)
    _check_grads(params, grads)
    # float16 is what an implementation may not have.
    halves = [t for t in (copy, *grads) if t is not None and t.dtype == torch.float16]
    decides = halves[0] if halves else params
    impl = choose("adam", impl, decides, native=NATIVE_DTYPES, triton=TRITON_DTYPES)
    if impl == "reference":
        adam_reference(
            params,
            grads,
            exp_avg,
            exp_avg_sq,
            step,
            lr,
            beta1=beta1,
            beta2=beta2,
            eps=eps,
            copy=copy,
            inverse_scale=inverse_scale,
            found_inf=found_inf,
        )
        return
    op("adam", impl, params)(
        params,
        grads,
        exp_avg,
        exp_avg_sq,
        step,
        lr,
        copy,
        inverse_scale,
        found_inf,
        beta1,
        beta2,
        eps,
    )


_TINY = torch.finfo(torch.float32).tiny


def _check_flat(params: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, copy: Tensor | None) -> None:
    dtype, shape, device = params.dtype, params.shape, params.device
    check_dtype("adam", "params", params, (torch.float32, torch.float64))
    if params.dim() != 1 or not 0 < params.numel() < 2**31:
        raise ValueError(f"adam: params is {tuple(shape)}; (n,) with 0 < n < 2^31 works")
    for name, flat in (("params", params), ("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq)):
        check_shape("adam", name, flat, shape, "params")
        check_vector("adam", name, flat, dtype, device, "params")
    if copy is None:
        return
    check_dtype("adam", "copy", copy, (torch.bfloat16, torch.float16))
    check_shape("adam", "copy", copy, shape, "params")
    check_vector("adam", "copy", copy, copy.dtype, device, "params")
    if dtype != torch.float32:
        raise ValueError(f"adam: copy needs params of float32, and they are {dtype}")


def _check_scalars(
    params: Tensor,
    step: Tensor,
    lr: Tensor,
    inverse_scale: Tensor | None,
    found_inf: Tensor | None,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    for name, scalar, dtypes in (
        ("step", step, (torch.int64,)),
        ("lr", lr, (torch.float32, params.dtype)),
        ("inverse_scale", inverse_scale, (torch.float32,)),
        ("found_inf", found_inf, (torch.float32,)),
    ):
        if scalar is None:
            continue
        check_dtype("adam", name, scalar, dtypes)
        if scalar.dim() > 1 or scalar.numel() != 1:
            raise ValueError(f"adam: {name} is {tuple(scalar.shape)}; () and (1,) work")
        check_same_device("adam", name, scalar, "params", params)
    for name, beta in (("beta1", beta1), ("beta2", beta2)):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"adam: {name}={beta}; 0 to below 1 work")
    if not _TINY <= eps < math.inf:
        raise ValueError(f"adam: eps={eps}; {_TINY:.2g} or more works")


def _check_grads(params: Tensor, grads: Sequence[Tensor]) -> None:
    if not grads:
        raise ValueError("adam: grads is empty; it needs one gradient or more")
    dtype, device = params.dtype, params.device
    works = (torch.float64,) if dtype == torch.float64 else TRITON_DTYPES
    for i, grad in enumerate(grads):
        if grad.dtype not in works:
            text = "float64 works" if len(works) == 1 else "float32, bfloat16 and float16 work"
            raise ValueError(f"adam: grads[{i}] is {grad.dtype}; with params of {dtype} {text}")
        if grad.device != device:
            raise ValueError(f"adam: grads[{i}] is on {grad.device}, and params on {device}")
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
