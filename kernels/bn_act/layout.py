"""What bn_act writes, empty: its results and partial sums, for all implementations."""

from __future__ import annotations

import torch
from torch import Tensor

from fastinfogan.kernels.dispatch import accumulator


def sizes_of(x: Tensor, groups: int) -> tuple[int, int]:
    """Rows of a group (its pixels, or its samples where x is (B, C)), and channels."""
    channels = x.shape[1]
    return x.numel() // channels // groups, channels


def empty_partials(x: Tensor, groups: int, parts: int) -> Tensor:
    """(parts, 3, groups, channels), float32, or float64 if x is."""
    return x.new_empty((parts, 3, groups, x.shape[1]), dtype=accumulator(x.dtype))


def empty_results(x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """y, like x, and (mean, 1 / sigma) per group and channel: (2, groups, channels)."""
    stats = x.new_empty((2, groups, x.shape[1]), dtype=accumulator(x.dtype))
    return torch.empty_like(x), stats


def empty_gradients(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """dx, dweight and dbias."""
    return torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)
