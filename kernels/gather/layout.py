"""What all implementations share: the order's Feistel network, and how a batch lies in memory."""

from __future__ import annotations

import torch
from torch import Tensor

FEISTEL_ROUNDS = 4


def half_bits_of(count: int) -> int:
    """Half the bits of the smallest domain that a Feistel network can have and that holds count."""
    return max(1, -(-(count - 1).bit_length() // 2))


def empty_result(images: Tensor, batch: int, dtype: torch.dtype) -> Tensor:
    """Room for a batch of images: (batch, C, H, W) of ``dtype``, channels-last."""
    return images.new_empty((batch, *images.shape[1:]), dtype=dtype).permute(0, 3, 1, 2)
