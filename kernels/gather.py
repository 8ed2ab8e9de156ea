"""Batches of images: which rows an iteration sees, and their conversion from uint8.

Epoch e visits the N images in the order of a permutation computed on the fly: a Feistel network of
four rounds on the smallest even number of bits that holds N, keyed by (seed, e), walked until it
lands below N (cycle walking; Black and Rogaway 2002, "Ciphers with arbitrary finite domains",
section 3). Position p of a run is image perm_{p div N}(p mod N): every image once an epoch, no
shuffled list kept anywhere, and a run resumes by remembering p.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastinfogan.kernels.philox import STREAM_ORDER, philox_reference

_FEISTEL_ROUNDS = 4


def order_reference(positions: Tensor, count: int, seed: int) -> Tensor:
    """Image index of each position of a run.

    Args:
        positions: int64, any shape, 0 or more.
        count: N, the number of images, 1 or more.
        seed: the key.

    Returns:
        int64 indices in [0, N), of the shape of ``positions``.
    """
    half_bits = max(1, -(-(count - 1).bit_length() // 2))
    epoch = positions // count
    index = _feistel(positions % count, epoch, half_bits, seed)
    while (outside := index >= count).any():
        index = torch.where(outside, _feistel(index, epoch, half_bits, seed), index)
    return index


def gather_reference(
    images: Tensor, indices: Tensor, output_range: tuple[float, float] = (0.0, 1.0)
) -> Tensor:
    """The images of a batch, as floats.

    Args:
        images: (N, H, W, C) uint8.
        indices: (B,) int64 on the same device.
        output_range: what 0 and 255 become.

    Returns:
        (B, C, H, W) float32 in channels-last memory format.
    """
    return to_float(images[indices], output_range)


def to_float(images: Tensor, output_range: tuple[float, float]) -> Tensor:
    """(B, H, W, C) uint8 -> (B, C, H, W) float32, channels-last, 0 and 255 at the range's ends."""
    low, high = output_range
    return images.permute(0, 3, 1, 2).float().mul_((high - low) / 255.0).add_(low)


def _feistel(index: Tensor, epoch: Tensor, half_bits: int, seed: int) -> Tensor:
    mask = (1 << half_bits) - 1
    left, right = index >> half_bits, index & mask
    stream = torch.full_like(index, STREAM_ORDER)
    for round_ in range(_FEISTEL_ROUNDS):
        keyed = (right << 2) + round_  # half_bits <= 30: fits a 32-bit word
        words = philox_reference(seed, keyed, epoch & 0xFFFFFFFF, epoch >> 32, stream)
        left, right = right, left ^ (words[0] & mask)
    return (left << half_bits) | right
