"""Channels-last maps, which kernels take: in memory, a row of adjacent channels per pixel."""

from __future__ import annotations

import torch
from torch import Tensor


def channels_last(x: Tensor) -> Tensor:
    """(B, C, H, W) in channels-last memory, (B, C) contiguous; no copy if it is so already.

    (Its strides as well: where a size is 1, others would do too.)
    """
    layout = torch.channels_last if x.dim() == 4 else torch.contiguous_format
    return x.contiguous(memory_format=layout)


def empty_maps(like: Tensor, batch: int, channels: int, height: int, width: int) -> Tensor:
    """(B, C, H, W) in channels-last memory, with the dtype and device of ``like``."""
    return torch.empty(
        (batch, channels, height, width),
        dtype=like.dtype,
        device=like.device,
        memory_format=torch.channels_last,
    )


def pixel_matrix(maps: Tensor) -> Tensor:
    """(B, C, H, W), channels-last, as (B H W, C), without a copy."""
    return maps.permute(0, 2, 3, 1).view(-1, maps.shape[1])


def in_rows(maps: Tensor) -> Tensor:
    """(B, C, H, W) as a row for each image, in the order of channels-last memory: (B, H W C)."""
    return maps.permute(0, 2, 3, 1).flatten(1)
