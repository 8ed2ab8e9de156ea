"""The information term: negative log-likelihood of the codes under Q, with L_I = H(c) - NLL.

Per code, for the value c that was fed to the generator and the numbers that Q put out for it:

    categorical  NLL = logsumexp(l) - l[c]                                  K logits l
    uniform,
    Gaussian     NLL = 0.5 ((c - m) / sigma)^2 + log sigma + 0.5 log 2 pi   mean m, sigma
                 sigma = 1 (fixed) or exp(b tanh(s / b)), b = 2 (learned)   mean m, s
    Bernoulli    NLL = softplus(l) - c l                                    logit l

averaged over the batch; the objective adds the codes up, each times its lambda. (Paper, eq. 5 and
section 6; a uniform code has a Gaussian posterior, as in the published code. Why tanh:
``spec.LOG_SIGMA_BOUND``.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from fastinfogan.kernels.spec import HALF_LOG_TWO_PI, LOG_SIGMA_BOUND, Code


def mi_loss_reference(
    q_params: Tensor, values: Tensor, codes: Sequence[Code], weights: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Weighted NLL of the codes, and each code's own, in plain torch.

    Args:
        q_params: (B, sum of the codes' ``q_width``), any float dtype; the arithmetic is float32
            or wider.
        values: (B, len(codes)) as drawn; a category is its index.
        codes: the codes in order; one that isn't regularised has no columns in ``q_params``.
        weights: lambda per code.

    Returns:
        The weighted sum, a scalar; and the NLL per code, (len(codes),), in nats, detached, 0 for a
        code that isn't regularised.

    Raises:
        ValueError: a width doesn't fit the codes.
    """
    widths = [code.q_width for code in codes]
    if q_params.shape[1] != sum(widths) or values.shape[1] != len(codes):
        raise ValueError(
            f"q_params has {q_params.shape[1]} columns and values {values.shape[1]}; "
            f"the codes need {sum(widths)} and {len(codes)}"
        )
    q_params = q_params.to(torch.promote_types(q_params.dtype, torch.float32))
    values = values.to(q_params.dtype)
    nlls = []
    for i, (code, out) in enumerate(zip(codes, q_params.split(widths, dim=1), strict=True)):
        value = values[:, i]
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
    return nll @ nll.new_tensor(weights), nll.detach()
