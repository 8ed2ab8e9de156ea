"""Which of conv's three operations "auto" leaves to torch, by shapes alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fastinfogan.kernels.conv.layout import TAPS
from fastinfogan.kernels.conv.tiles import SMS, WAVE, tiles
from fastinfogan.kernels.dispatch import Impl


def ours_is_faster(
    impl: Impl,
    operation: str,
    dtype: torch.dtype,
    large: Sequence[int],
    channels: int,
    stride: int,
) -> bool:
    """Whether "auto" takes our operation, not torch's: never by timing, for resuming must agree.

    Args:
        impl: what runs here, "native" or "triton".
        operation: "down", "up" or "weight".
        dtype: of maps and weight.
        large: shape of the large map.
        channels: those of the small map.
        stride: 1 or 2.
    """
    if impl == "triton":
        return _triton_is_faster(operation, large, channels, stride)
    return _native_is_faster(operation, dtype, large, channels, stride)


def _triton_is_faster(operation: str, large: Sequence[int], channels: int, stride: int) -> bool:
    """Measured over the presets' layers on an H200 (docs/kernels.md has the table).

    Everywhere but for ``down`` to few small pixels from many channels: of such a long sum cuDNN
    makes parts, our programs are too few to keep a GPU busy.
    """
    batch, image_channels, height, width = large
    pixels = batch * (height // stride) * (width // stride)
    few = tiles(pixels, channels, 64, 64) < SMS - WAVE
    return not (operation == "down" and few and image_channels * TAPS**2 >= 2048)


def _native_is_faster(
    operation: str, dtype: torch.dtype, large: Sequence[int], channels: int, stride: int
) -> bool:
    """Measured over the presets' layers (docs/kernels.md has the table), with AVX-512.

    * torch has no fast convolution in float64.
    * Torch's are poor on small maps. But ``down`` needs a large weight to gain from that: it packs
      the patches, which the direct convolution doesn't.
    * ``up`` to an image's 1 or 3 channels is 3 to 5 times as fast; so is ``down`` from 1 channel,
      since torch takes that for NCHW and puts out NCHW, which must be copied.
    """
    if dtype == torch.float64:
        return True
    _, image_channels, height, width = large
    if (height // stride) * (width // stride) <= 16:
        return operation != "down" or channels * image_channels * TAPS**2 >= 1 << 20
    return image_channels <= {"down": 1, "up": 3, "weight": 0}[operation]
