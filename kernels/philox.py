"""Philox4x32-10, the counter-based random numbers behind latents, gather and warp.

Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3.
A 64-bit key (the seed) and a 128-bit counter give four 32-bit words; every draw here is a function
of (seed, stream, sample index, column), so that it doesn't matter who draws, in what order, or in
how many parts, and a run resumes by remembering one number.
"""

from __future__ import annotations

import torch
from torch import Tensor

# One stream per purpose, so that no two uses share a counter.
STREAM_LATENTS, STREAM_ORDER = 0, 1
STREAM_COPY, STREAM_REAL, STREAM_FAKE = 3, 4, 5  # how an image is changed, by what for

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def philox_reference(
    seed: int | Tensor, c0: Tensor, c1: Tensor, c2: Tensor, c3: Tensor
) -> list[Tensor]:
    """Four words per counter in plain torch.

    Args:
        seed: the key, an integer or an int64 tensor of shape (1,); its 64 bits as they are.
        c0, c1, c2, c3: int64 tensors of one shape (or broadcastable), each holding 32 bits.

    Returns:
        Four int64 tensors of the broadcast shape, each word in [0, 2^32).
    """
    k0, k1 = halves(seed)
    x0, x1, x2, x3 = torch.broadcast_tensors(c0, c1, c2, c3)
    for _ in range(_ROUNDS):
        high0, low0 = _multiply(x0, _MULTIPLIERS[0])
        high1, low1 = _multiply(x2, _MULTIPLIERS[1])
        x0, x1, x2, x3 = high1 ^ x1 ^ k0, low1, high0 ^ x3 ^ k1, low0
        k0, k1 = (k0 + _KEY_STEPS[0]) & _MASK, (k1 + _KEY_STEPS[1]) & _MASK
    return [x0, x1, x2, x3]


def halves(x: int | Tensor) -> tuple[int | Tensor, int | Tensor]:
    """Low and high 32 bits of 64."""
    return x & _MASK, x >> 32 & _MASK


def _multiply(x: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of x * factor; in two 48-bit halves, since int64 can't hold 64 bits."""
    low, high = x * (factor & 0xFFFF), x * (factor >> 16)
    return (high + (low >> 16)) >> 16, (low + ((high & 0xFFFF) << 16)) & _MASK
