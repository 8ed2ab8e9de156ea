"""Noise and latent codes from counter-based random numbers.

Sample n of a run draws column j from word j mod 4 of
Philox(seed, counter = (n low, n high, j div 4, stream)):

    uniform      c = 2 u - 1                    u = (word + 0.5) / 2^32
    categorical  c = floor(word K / 2^32)
    Bernoulli    c = word >= 2^31
    Gaussian     Box-Muller on columns (j, j + 1), j even: the pair (r cos t, r sin t),
                 r = sqrt(-2 log u1), t = 2 pi u2

The noise has the first columns. The codes follow, one column each, from the next even column on;
a Gaussian code has an even-aligned pair to itself and takes its cosine. No word serves two draws,
so all draws are independent, and a batch is the same whatever way it is split among devices.
(Priors: paper, section 7 and appendix C.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fastinfogan.kernels.philox import STREAM_LATENTS, philox_reference
from fastinfogan.kernels.spec import Code


def latents_reference(
    noise: int,
    codes: Sequence[Code],
    batch: int,
    seed: int,
    offset: int,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """Draw samples ``offset`` to ``offset + batch - 1`` in plain torch.

    Returns:
        Noise (batch, noise), float32, N(0, 1); and code values (batch, len(codes)), float32, a
        category as its index.
    """
    columns = code_columns(noise, codes)
    blocks = -(-(max(columns) + 2) // 4)
    sample = torch.arange(offset, offset + batch, device=device).unsqueeze(1)
    block = torch.arange(blocks, device=device).unsqueeze(0)
    stream = torch.full_like(block, STREAM_LATENTS)
    words = torch.stack(
        philox_reference(seed, sample & 0xFFFFFFFF, sample >> 32, block, stream), dim=2
    )  # (batch, blocks, 4)
    u = ((words.double() + 0.5) * 2.0**-32).float().clamp_max(1.0 - 2.0**-24)
    radius = torch.sqrt(-2.0 * torch.log(u[..., 0::2]))
    angle = 2.0 * math.pi * u[..., 1::2]
    normal = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=3)

    words, u, normal = (t.reshape(batch, 4 * blocks) for t in (words, u, normal))
    values = []
    for j, code in zip(columns, codes, strict=True):
        if code.kind == "categorical":
            values.append((words[:, j] * code.categories) >> 32)
        elif code.kind == "bernoulli":
            values.append(words[:, j] >> 31)
        elif code.kind == "uniform":
            values.append(2.0 * u[:, j] - 1.0)
        else:
            values.append(normal[:, j])
    drawn = [value.float() for value in values]
    return normal[:, :noise].contiguous(), torch.stack(drawn, dim=1)


def code_columns(noise: int, codes: Sequence[Code]) -> list[int]:
    """The first column of each code."""
    columns, free = [], noise + noise % 2
    for code in codes:
        pair = code.kind == "gaussian"
        free += free % 2 if pair else 0
        columns.append(free)
        free += 2 if pair else 1
    return columns
