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
segments begin at multiples of ALIGN (``layout.py``), so that a block of numbers has one gradient,
and a vector of them the right address.

(Kingma and Ba 2015, algorithm 1, with the bias corrections moved as in section 2, and eps beside
the corrected root, as in torch.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

import fastinfogan.kernels.adam.registration  # noqa: F401  (registers what op() gives)
from fastinfogan.kernels.adam.arguments import check
from fastinfogan.kernels.adam.layout import offsets
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
    check(
        params,
        grads,
        exp_avg,
        exp_avg_sq,
        step,
        lr,
        beta1,
        beta2,
        eps,
        copy,
        inverse_scale,
        found_inf,
    )
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
