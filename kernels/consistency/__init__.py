"""The consistency of Q: its codes of a real image and of a slightly changed copy should agree.

For each regularised discrete code, with p what Q says of the image and q what it says of the copy,

    categorical  KL = sum_k p_k (log p_k - log q_k)                        softmax of K logits
    Bernoulli    KL = p (log p - log q) + (1 - p) (log(1 - p) - log(1 - q))    sigmoid of a logit

averaged over the batch and added up over the codes. p is a constant: the gradient of one row, to be
divided by the batch, is q - p for every logit of the copy, for either kind. A continuous code may
well be what has been changed (a rotation, a width): it takes no part.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from fastinfogan.kernels.codes import Code


def consistency_reference(q_image: Tensor, q_copy: Tensor, codes: Sequence[Code]) -> Tensor:
    """The KL divergence in plain torch.

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
        if not (code.regularized and code.is_discrete):
            continue
        p, q = p_params[:, here], q_params[:, here]
        if code.kind == "bernoulli":  # two categories, of which one has the logit 0
            p, q = F.pad(p, (1, 0)), F.pad(q, (1, 0))
        log_p, log_q = p.log_softmax(1), q.log_softmax(1)
        total = total + F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    return total


def consistency(q_image: Tensor, q_copy: Tensor, codes: Sequence[Code]) -> Tensor:
    return consistency_reference(q_image, q_copy, codes)
