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

G's input is the noise and then the codes in order, a categorical one as a one-hot vector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

import fastinfogan.kernels.latents.registration  # noqa: F401  (registers what op() gives)
from fastinfogan.kernels.codes import Code
from fastinfogan.kernels.dispatch import Impl, choose, op
from fastinfogan.kernels.latents.arguments import check, read
from fastinfogan.kernels.latents.layout import word_columns
from fastinfogan.kernels.philox import STREAM_LATENTS, halves, philox_reference


def latents_reference(
    noise: int,
    codes: Sequence[Code],
    batch: int,
    seed: int | Tensor,
    offset: int | Tensor,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """Draw samples ``offset`` to ``offset + batch - 1`` in plain torch.

    Args:
        noise, codes, batch, dtype: see ``latents``.
        seed, offset: integers, or int64 tensors of shape (1,) on ``device``.
        device: of the results.

    Returns:
        G's input (batch, noise + the codes' widths), ``dtype``; and code values
        (batch, len(codes)), float32, a category as its index.
    """
    columns, words_used = word_columns(noise, codes)
    blocks = -(-words_used // 4)
    sample = (offset + torch.arange(batch, device=device)).unsqueeze(1)
    block = torch.arange(blocks, device=device).unsqueeze(0)
    stream = torch.full_like(block, STREAM_LATENTS)
    words = torch.stack(
        philox_reference(seed, *halves(sample), block, stream), dim=2
    )  # (batch, blocks, 4)
    u = ((words.double() + 0.5) * 2.0**-32).float().clamp_max(1.0 - 2.0**-24)
    radius = torch.sqrt(-2.0 * torch.log(u[..., 0::2]))
    angle = 2.0 * math.pi * u[..., 1::2]
    normal = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=3)

    words, u, normal = (t.reshape(batch, 4 * blocks) for t in (words, u, normal))
    inputs, values = [normal[:, :noise]], []
    for j, code in zip(columns, codes, strict=True):
        if code.kind == "categorical":
            value = (words[:, j] * code.categories) >> 32
        elif code.kind == "bernoulli":
            value = words[:, j] >> 31
        elif code.kind == "uniform":
            value = 2.0 * u[:, j] - 1.0
        else:
            value = normal[:, j]
        values.append(value.float())
        one_hot = code.has_categories
        inputs.append(F.one_hot(value, code.categories) if one_hot else values[-1].unsqueeze(1))
    return torch.cat([part.to(dtype) for part in inputs], dim=1), torch.stack(values, dim=1)


def latents(
    noise: int,
    codes: Sequence[Code],
    batch: int,
    seed: Tensor,
    offset: Tensor,
    *,
    shift: int = 0,
    dtype: torch.dtype = torch.float32,
    impl: Impl = "auto",
) -> tuple[Tensor, Tensor]:
    """Draw samples ``offset + shift`` to ``offset + shift + batch - 1`` of the seed's stream.

    The host reads neither seed nor offset, so that a CUDA graph draws what they hold when it is
    replayed. (One call must come before the capture: it puts the table of the codes on the device.)

    Args:
        noise: columns of noise, 0 to 4,096.
        codes: 1 to 64 codes, categorical ones of 2 to 1,024 categories.
        batch: samples, 1 or more.
        seed, offset: int64 of shape (1,), on the device where the results are wanted; meant to be
            0 or more, which isn't checked (a negative one counts as the 64 bits that it has).
        shift: added to the offset: a rank's share, or an iteration's second draw.
        dtype: of the inputs: float32, bfloat16, float16 or float64. Draws are made in float32 and
            rounded once.
        impl: see ``dispatch.choose``.

    Returns:
        G's input (batch, noise + the codes' widths), ``dtype``: the noise, then the codes in order,
        a categorical one as a one-hot vector. And the codes' values (batch, len(codes)), float32,
        a category as its index.

    Raises:
        ValueError: an argument is off: the message names it.
        RuntimeError: ``impl`` can't run here.
    """
    # Dynamo follows Python, but not into a cache.
    reader = read.__wrapped__ if torch.compiler.is_compiling() else read
    table, words, width = reader(noise, tuple(codes))
    check(batch, seed, offset, dtype)
    impl = choose("latents", impl, seed, native=(torch.int64,), triton=(torch.int64,))
    if impl == "reference":
        return latents_reference(noise, codes, batch, seed, offset + shift, seed.device, dtype)
    return op("latents", impl, seed)(seed, offset, shift, batch, noise, table, words, width, dtype)
