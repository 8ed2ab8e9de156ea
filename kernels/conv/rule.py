"""Which of conv's three operations "auto" leaves to torch, by shapes alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fastinfogan.kernels.conv.layout import IMAGE_CHANNELS, TAPS
from fastinfogan.kernels.conv.tiles import SMS, WAVE, tiles
from fastinfogan.kernels.dispatch import NATIVE, THREADED, Impl

AMX = NATIVE is not None and NATIVE.cpu_features()["amx_bf16"]
AVX512 = NATIVE is not None and NATIVE.cpu_features()["avx512f"]
LARGE = 32 * 32  # pixels
IMAGES = {"down": 8, "up": 8, "weight": 16}  # from which on

# Where Winograd's way is the faster one: channels of either map, and pairs of them; the small map's
# sides; numbers that a product's sum runs over.
LEAST_CHANNELS = {"down": 32, "up": 32, "weight": 64}
LEAST_PAIRS = {"down": 2048, "up": 4096, "weight": 8192}
LEAST_SIDE = {"down": 5, "up": 5, "weight": 4}
LEAST_PLACES = 2048  # pixels of all small maps
LONGEST_SUM = 512
MOST_PAIRS = 32_768  # of ``weight``


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
    """Measured over the presets' layers (docs/kernels.md has the table).

    * torch has no fast convolution in float64.
    * Built without OpenMP, as for macOS, ours run on one thread, and torch's on all.
    * In bfloat16 with AMX all is torch's: a tile of AMX does what takes us 16 instructions.
    * torch's ``down`` from an image's 2 to 4 channels is the better one.
    * Few images fill no tile, and no block of ``weight``'s sum; but small maps torch is poor at.
    * From maps of 32x32 on, torch's ``down`` is as fast as ours or a tenth faster, but where ours
      takes fewer products.
    """
    if dtype == torch.float64:
        return True
    if not THREADED or (dtype == torch.bfloat16 and AMX):
        return False
    batch, image_channels, height, width = large
    if image_channels <= IMAGE_CHANNELS:
        return image_channels == 1 or operation != "down"
    if batch < IMAGES[operation] and (height // stride) * (width // stride) > 16:
        return False
    if operation != "down" or height * width < LARGE:
        return True
    return winograd_is_faster(operation, dtype, large, channels, stride)


def winograd_is_faster(
    operation: str, dtype: torch.dtype, large: Sequence[int], channels: int, stride: int
) -> bool:
    """Whether ours on a CPU sums fewer products, which has to make more of the maps first.

    Measured over the presets' layers and some around them (docs/kernels.md has the table).

    * bfloat16 loses too much when numbers are subtracted before they are multiplied.
    * Of few channels, or in few places, what is saved is less than what making takes; so it is
      where half of a map is next to its border.
    * Of many channels, what is made and the weight's factors don't stay in a second-level cache.
    * With AVX-512 products of ``weight`` are so fast that making takes as long as is saved.

    Args:
        operation, dtype, large, channels, stride: as above.
    """
    batch, image_channels, height, width = large
    rows, columns = height // stride, width // stride
    pairs = channels * image_channels
    if operation == "weight":
        fits = not AVX512 and pairs <= MOST_PAIRS
    else:
        # Four filters are summed; going up with stride 2 each is for results of its own.
        filters = 1 if operation == "up" and stride == 2 else 4
        fits = filters * (channels if operation == "up" else image_channels) <= LONGEST_SUM
    return (
        fits
        and dtype in (torch.float32, torch.float64)
        and min(channels, image_channels) >= LEAST_CHANNELS[operation]
        and pairs >= LEAST_PAIRS[operation]
        and min(rows, columns) >= LEAST_SIDE[operation]
        and batch * rows * columns >= LEAST_PLACES
    )
