"""The losses of D and G: the information term, and with it the adversarial terms.

The information term is the negative log-likelihood of the codes under Q; L_I = H(c) - NLL. Per
code, for the value c that was fed to the generator and the numbers that Q put out for it:

    categorical  NLL = logsumexp(l) - l[c]                                  K logits l
    uniform,
    Gaussian     NLL = 0.5 ((c - m) / sigma)^2 + log sigma + 0.5 log 2 pi   mean m, sigma
                 sigma = 1 (fixed) or exp(b tanh(s / b)), b = 2 (learned)   mean m, s
    Bernoulli    NLL = softplus(l) - c l                                    logit l

averaged over the batch; the objective adds the codes up, each times its lambda. (Paper, eq. 5 and
section 6; a uniform code has a Gaussian posterior, as in the published code. Why tanh:
``codes.LOG_SIGMA_BOUND``.) The adversarial terms, of D's logits, are the non-saturating ones:

    D    mean softplus(-l_real) + mean softplus(l_fake)
    G    mean softplus(-l_fake)

Gradients of one row, to be multiplied by lambda / B, with e = (c - m) / sigma:

    categorical  dNLL/dl = softmax(l) - onehot(c)
    Gaussian     dNLL/dm = -e / sigma             dNLL/ds = (1 - e^2) (1 - tanh(s / b)^2)
    Bernoulli    dNLL/dl = sigmoid(l) - c
    adversarial  dsoftplus(x)/dx = sigmoid(x)

The launch that computes the loss computes them too. They are all that is kept for the backward,
in float32: it multiplies them by the incoming scalar, which may be a loss scale, and rounds then.
With ``seed`` the scalar is known beforehand: the launch multiplies and rounds, and the backward
hands on what it wrote.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

import fastinfogan.kernels.mi_loss.registration  # noqa: F401  (registers what op() gives)
from fastinfogan.kernels.checks import check_begun_with
from fastinfogan.kernels.codes import HALF_LOG_TWO_PI, LOG_SIGMA_BOUND, Code
from fastinfogan.kernels.dispatch import NATIVE_DTYPES, TRITON_DTYPES, Impl, accumulator, choose, op
from fastinfogan.kernels.mi_loss.arguments import Terms, check, check_categories, read
from fastinfogan.kernels.mi_loss.layout import add_to, weights_on_device
from fastinfogan.kernels.once import once

Weights = Sequence[float]  # lambda per code


def mi_loss_reference(
    q_params: Tensor, values: Tensor, codes: Sequence[Code], weights: Weights
) -> tuple[Tensor, Tensor]:
    """``mi_loss`` in plain torch, for any float dtype.

    Raises:
        ValueError: a width doesn't fit the codes.
    """
    widths = [code.q_width for code in codes]
    if q_params.shape[1] != sum(widths) or values.shape[1] != len(codes):
        raise ValueError(
            f"q_params has {q_params.shape[1]} columns and values {values.shape[1]}; "
            f"the codes need {sum(widths)} and {len(codes)}"
        )
    q_params = _wide(q_params)
    values = values.to(q_params.dtype)
    nlls = []
    columns = q_params.split(widths, dim=1)
    for code, out, value in zip(codes, columns, values.unbind(dim=1), strict=True):
        if not code.regularized:
            nll = q_params.new_zeros(())
        elif code.kind == "categorical":
            nll = F.cross_entropy(out, value.long())
        elif code.kind == "bernoulli":
            nll = F.binary_cross_entropy_with_logits(out[:, 0], value)
        else:
            log_sigma = torch.zeros_like(value)
            if code.std == "learned":
                log_sigma = LOG_SIGMA_BOUND * torch.tanh(out[:, 1] / LOG_SIGMA_BOUND)
            error = (value - out[:, 0]) * torch.exp(-log_sigma)
            nll = (0.5 * error.square() + log_sigma + HALF_LOG_TWO_PI).mean()
        nlls.append(nll)
    nll = torch.stack(nlls)
    # Dynamo follows Python, but not into a cache.
    on_device = weights_on_device
    if torch.compiler.is_compiling():
        on_device = weights_on_device.__wrapped__
    return nll @ on_device(tuple(weights), nll.dtype, nll.device), nll.detach()


def d_loss_reference(
    logits: Tensor, q_params: Tensor, values: Tensor, codes: Sequence[Code], weights: Weights
) -> tuple[Tensor, Tensor]:
    """``d_loss`` in plain torch."""
    real, fake = _wide(logits).chunk(2)
    adversarial = F.softplus(-real).mean() + F.softplus(fake).mean()
    return _add(adversarial, *mi_loss_reference(q_params, values, codes, weights))


def g_loss_reference(
    logits: Tensor, q_params: Tensor, values: Tensor, codes: Sequence[Code], weights: Weights
) -> tuple[Tensor, Tensor]:
    """``g_loss`` in plain torch."""
    adversarial = F.softplus(-_wide(logits)).mean()
    return _add(adversarial, *mi_loss_reference(q_params, values, codes, weights))


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _add(adversarial: Tensor, information: Tensor, nlls: Tensor) -> tuple[Tensor, Tensor]:
    return adversarial + information, torch.cat([adversarial.detach()[None], nlls])


class MiLossFunction(torch.autograd.Function):
    """Keeps the gradients of the total, which the launch has computed with it."""

    @staticmethod
    def forward(
        ctx,
        logits: Tensor | None,
        q_params: Tensor,
        values: Tensor,
        terms: Terms,
        seed: Tensor | None,
        tally: Tensor | None,
        impl: Impl,
    ) -> tuple[Tensor, Tensor]:
        total, means, grads = op("mi_loss", impl, q_params)(
            logits, q_params, values, terms.kinds, terms.widths, terms.weights, seed, tally
        )
        ctx.save_for_backward(grads)
        ctx.settings = q_params.shape, q_params.dtype, seed
        ctx.mark_non_differentiable(means)
        ctx.set_materialize_grads(False)
        return total, means

    @staticmethod
    @once("mi_loss")
    def backward(ctx, dtotal: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if dtotal is None:  # nobody wants the total's gradient
            return (None,) * 7
        (grads,) = ctx.saved_tensors
        shape, dtype, seed = ctx.settings
        if seed is None:
            scaled = torch.empty_like(grads, dtype=dtype)
            torch.mul(grads, dtotal, out=scaled)  # one launch for both inputs
        else:
            check_begun_with("mi_loss", seed, dtotal)
            scaled = grads
        numbers, dlogits = shape.numel(), None
        if scaled.numel() > numbers:
            scaled, dlogits = scaled.split_with_sizes((numbers, scaled.numel() - numbers))
        return dlogits, scaled.view(shape), None, None, None, None, None


def mi_loss(
    q_params: Tensor,
    values: Tensor,
    codes: Sequence[Code],
    weights: Weights,
    impl: Impl = "auto",
    seed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Weighted NLL of the codes, and each code's own; its gradient in the same launch.

    Tensors of any strides do; contiguous ones need no copy. The first call with a combination of
    codes, weights, device and stream copies a table to the device, so make it before a CUDA graph
    is captured. Two graphs captured on one stream must not be replayed at the same time.

    Args:
        q_params: (B, sum of the codes' ``q_width``), float32, bfloat16, float16 or float64. The
            arithmetic is float32 (float64 if this is).
        values: (B, len(codes)) as drawn, float32 or float64; a category is its index. A category
            that is no integer in [0, K) raises on the CPU; on a GPU, which would have to wait for
            it, loss and gradient of that code are NaN.
        codes: the codes in order; one that isn't regularised has no columns in ``q_params``.
        weights: lambda per code.
        impl: see ``dispatch.choose``.
        seed: one number on the device, float32 (float64 if ``q_params`` is): what the backward pass
            will begin with, 1 or a loss scale. Then it takes no launch, and must begin with this
            very tensor (or a view of it) as the total's gradient.

    Returns:
        The weighted sum, a scalar; and the NLL per code, (len(codes),), in nats, detached, 0 for a
        code that isn't regularised. Both float32 (float64 if ``q_params`` is).

    Raises:
        ValueError: an argument is off: the message names it.
        RuntimeError: ``impl`` can't run here.
    """
    total, terms = _loss("mi_loss", None, q_params, values, codes, weights, impl, seed, None)
    return total, terms[1:]


def d_loss(
    logits: Tensor,
    q_params: Tensor,
    values: Tensor,
    codes: Sequence[Code],
    weights: Weights,
    impl: Impl = "auto",
    seed: Tensor | None = None,
    tally: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """D's whole objective in one launch: mean softplus(-real) + mean softplus(fake) + mi_loss.

    Args:
        logits: (2 B,) of D, on the real images, then on the fakes; of ``q_params``' dtype.
        q_params, values, codes, weights, impl, seed: see ``mi_loss``.
        tally: (2 + len(codes),) float64 on the device, what the terms of many losses add up to, or
            None. In this launch D's adversarial term is added to its first number and the NLLs to
            those from the third on; ``g_loss`` adds G's adversarial term to the second.

    Returns:
        The total, a scalar; and its terms, (1 + len(codes),), in nats, detached: the adversarial
        one, then each code's NLL before its weight.

    Raises:
        ValueError, RuntimeError: as ``mi_loss``.
    """
    return _loss("d_loss", logits, q_params, values, codes, weights, impl, seed, tally)


def g_loss(
    logits: Tensor,
    q_params: Tensor,
    values: Tensor,
    codes: Sequence[Code],
    weights: Weights,
    impl: Impl = "auto",
    seed: Tensor | None = None,
    tally: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """G's whole objective in one launch: mean softplus(-logits) + mi_loss.

    Args:
        logits: (B,) of D on the fakes; of ``q_params``' dtype.
        q_params, values, codes, weights, impl, seed: see ``mi_loss``.
        tally: see ``d_loss``.

    Returns:
        As ``d_loss``.

    Raises:
        ValueError, RuntimeError: as ``mi_loss``.
    """
    return _loss("g_loss", logits, q_params, values, codes, weights, impl, seed, tally)


def _loss(
    name: str,
    logits: Tensor | None,
    q_params: Tensor,
    values: Tensor,
    codes: Sequence[Code],
    weights: Weights,
    impl: Impl,
    seed: Tensor | None,
    tally: Tensor | None,
) -> tuple[Tensor, Tensor]:
    # Dynamo follows Python, but not into a cache.
    reader = read.__wrapped__ if torch.compiler.is_compiling() else read
    terms = reader(name, tuple(codes), tuple(weights))
    check(name, logits, q_params, values, terms, seed, tally)
    impl = choose(name, impl, q_params, native=NATIVE_DTYPES, triton=TRITON_DTYPES)
    values = values.to(accumulator(q_params.dtype))
    if impl != "reference":
        logits = None if logits is None else logits.contiguous()
        q_params, values = q_params.contiguous(), values.contiguous()
        return MiLossFunction.apply(logits, q_params, values, terms, seed, tally, impl)
    if q_params.device.type == "cpu" and not torch.compiler.is_compiling():
        check_categories(name, values, terms)
    if logits is None:
        total, nlls = mi_loss_reference(q_params, values, codes, weights)
        return total, F.pad(nlls, (1, 0))
    reference = d_loss_reference if name == "d_loss" else g_loss_reference
    total, found = reference(logits, q_params, values, codes, weights)
    if tally is not None:
        add_to(tally, found, name == "d_loss")
    return total, found
