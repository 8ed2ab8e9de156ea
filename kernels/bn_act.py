"""Batch normalisation followed by a (leaky) ReLU.

For each channel, over the N values that the channel has in one group of the batch:

    mu    = sum(x) / N                 var = sum((x - mu)^2) / N
    x_hat = (x - mu) / sqrt(var + eps) y   = act(weight * x_hat + bias)
    act(u) = u if u > 0 else slope * u

Running statistics follow torch: r <- (1 - momentum) r + momentum s, with the unbiased variance
(N - 1 in the denominator). With ``groups=2`` the first and the second half of the batch are
normalised apart, as two calls would (the real and the fake images of D's update), and the running
statistics are updated by the first half, then by the second. (Ioffe and Szegedy 2015, algorithm 1;
the order norm -> activation is that of the published InfoGAN code.)
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def bn_act_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    slope: float,
    groups: int = 1,
    momentum: float = 0.1,
    eps: float = 1e-5,
    training: bool = True,
) -> Tensor:
    """Batchnorm and (leaky) ReLU in plain torch.

    Args:
        x: (B, C) or (B, C, H, W), any float dtype and memory format.
        weight, bias: (C,) scale and shift.
        running_mean, running_var: (C,) float32, updated in place when ``training``; None leaves
            no trace of the call (training only).
        slope: factor below zero; 0 is ReLU, 1 no activation at all.
        groups: 1 or 2 equal parts of the batch with statistics of their own.

    Returns:
        A tensor like ``x``.

    Raises:
        ValueError: ``groups`` doesn't divide the batch, or a channel has a single value.
    """
    if x.shape[0] % groups:
        raise ValueError(f"groups={groups} doesn't divide a batch of {x.shape[0]}")
    if not training:  # running statistics know no groups
        y = F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
        return F.leaky_relu(y, slope)
    parts = [
        F.batch_norm(part, running_mean, running_var, weight, bias, True, momentum, eps)
        for part in x.chunk(groups)
    ]
    return F.leaky_relu(parts[0] if groups == 1 else torch.cat(parts), slope)
