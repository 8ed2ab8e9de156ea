"""The consistency of Q: its codes of a real image and of a slightly changed copy should agree.

For each regularised discrete code, with p what Q says of the image and q what it says of the copy,

    categorical  KL = sum_k p_k (log p_k - log q_k)                        softmax of K logits
    Bernoulli    KL = p (log p - log q) + (1 - p) (log(1 - p) - log(1 - q))    sigmoid of a logit

averaged over the batch and added up over the codes. p is a constant: the gradient of one row, to be
divided by the batch, is q - p for every logit of the copy, for either kind. A continuous code may
well be what has been changed (a rotation, a width): it takes no part.

The launch that computes the loss computes the gradient too. It is all that is kept for the
backward, in float32: that multiplies it by the incoming scalar, which may be a loss scale, and
rounds then. With ``seed`` the scalar is known beforehand: the launch multiplies and rounds, and the
backward hands on what it wrote.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

import fastinfogan.kernels.consistency.registration  # noqa: F401  (registers what op() gives)
from fastinfogan.kernels.checks import check_begun_with
from fastinfogan.kernels.codes import Code
from fastinfogan.kernels.consistency.arguments import Terms, check, read, takes_part
from fastinfogan.kernels.dispatch import NATIVE_DTYPES, TRITON_DTYPES, Impl, choose, op
from fastinfogan.kernels.once import once


def consistency_reference(q_image: Tensor, q_copy: Tensor, codes: Sequence[Code]) -> Tensor:
    """The KL divergence in plain torch, for any float dtype.

    Args:
        q_image: (B, q_width) Q's output on images; no gradient reaches it.
        q_copy: like ``q_image``, on their copies.
        codes: in order.

    Returns:
        A scalar in nats, float32 (float64 if ``q_copy`` is).
    """
    wide = torch.promote_types(q_copy.dtype, torch.float32)
    p_params, q_params = q_image.detach().to(wide), q_copy.to(wide)
    total, column = q_params.new_zeros(()), 0
    for code in codes:
        here = slice(column, column + code.q_width)
        column += code.q_width
        if not takes_part(code):
            continue
        p, q = p_params[:, here], q_params[:, here]
        if code.has_categories:
            log_p, log_q = p.log_softmax(1), q.log_softmax(1)
        else:  # log sigmoid(l), and log(1 - sigmoid(l)) = log sigmoid(-l)
            log_p, log_q = (F.logsigmoid(torch.cat([out, -out], dim=1)) for out in (p, q))
        total = total + F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    return total


class ConsistencyFunction(torch.autograd.Function):
    """Keeps the gradient with respect to q_copy, which the launch has computed with the loss."""

    @staticmethod
    def forward(
        ctx, q_image: Tensor, q_copy: Tensor, terms: Terms, seed: Tensor | None, impl: Impl
    ) -> Tensor:
        loss, grads = op("consistency", impl, q_copy)(
            q_image, q_copy, terms.kinds, terms.widths, seed
        )
        ctx.save_for_backward(grads)
        ctx.settings = q_copy.dtype, seed
        return loss

    @staticmethod
    @once("consistency")
    def backward(ctx, dloss: Tensor) -> tuple[Tensor | None, ...]:
        (grads,) = ctx.saved_tensors
        dtype, seed = ctx.settings
        if seed is None:
            grads = torch.mul(grads, dloss, out=torch.empty_like(grads, dtype=dtype))
        else:
            check_begun_with("consistency", seed, dloss)
        return None, grads, None, None, None


def consistency(
    q_image: Tensor,
    q_copy: Tensor,
    codes: Sequence[Code],
    impl: Impl = "auto",
    seed: Tensor | None = None,
) -> Tensor:
    """The KL divergence of Q's discrete codes on copies from those on the images themselves.

    Equal inputs give exactly 0, and a gradient of 0. Tensors of any strides do; contiguous ones
    need no copy. The first call with a combination of codes, device and stream copies a table to
    the device, so make it before a CUDA graph is captured. Two graphs captured on one stream must
    not be replayed at the same time.

    Args:
        q_image: (B, sum of the codes' ``q_width``) Q's output on images: float32, bfloat16, float16
            or float64. No gradient reaches it.
        q_copy: like ``q_image``, on their copies. The arithmetic is float32 (float64 if this is).
        codes: the codes in order; one that isn't regularised has no columns. The columns of a
            continuous one get a gradient of 0; one discrete code at least must be regularised.
        impl: see ``dispatch.choose``.
        seed: one number on the device, float32 (float64 if ``q_copy`` is): what the backward pass
            will begin with, the loss's weight. Then it takes no launch, and must begin with this
            very tensor (or a view of it) as the loss's gradient.

    Returns:
        A scalar in nats, float32 (float64 if ``q_copy`` is); the kernels' is never below 0.

    Raises:
        ValueError: an argument is off: the message names it.
        RuntimeError: ``impl`` can't run here.
    """
    # Dynamo follows Python, but not into a cache.
    reader = read.__wrapped__ if torch.compiler.is_compiling() else read
    terms = reader(tuple(codes))
    check(q_image, q_copy, terms, seed)
    impl = choose("consistency", impl, q_copy, native=NATIVE_DTYPES, triton=TRITON_DTYPES)
    if impl == "reference":
        return consistency_reference(q_image, q_copy, codes)
    return ConsistencyFunction.apply(
        q_image.detach().contiguous(), q_copy.contiguous(), terms, seed, impl
    )
