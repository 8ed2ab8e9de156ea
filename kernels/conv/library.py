"""conv's three operations by torch's own convolutions, and the rule by which native ones run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from fastinfogan.kernels.channels_last import channels_last
from fastinfogan.kernels.conv.layout import TAPS, empty_weight


def padded(large: Tensor, stride: int) -> Tensor:
    """With stride 1, the map in its zeros: torch's own padding is symmetrical."""
    return large if stride == 2 else F.pad(large, (1, 2, 1, 2))


def conv_down(large: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """The small map of a large one."""
    small = F.conv2d(padded(large, stride), weight, bias, stride, padding=stride - 1)
    return channels_last(small)


def conv_up(
    small: Tensor, weight: Tensor, bias: Tensor | None, stride: int, height: int, width: int
) -> Tensor:
    """The large map, of this height and width, of a small one."""
    if stride == 1:  # "same" crops two after, padding=1 only one
        return channels_last(F.conv_transpose2d(small, weight, bias, padding=1)[..., :-1, :-1])
    odd = height % 2, width % 2  # the last row and column, which no patch may reach
    return channels_last(F.conv_transpose2d(small, weight, bias, stride, 1, odd))


def conv_weight(large: Tensor, small: Tensor, stride: int) -> Tensor:
    """The gradient of the weight."""
    grad = torch.ops.aten.convolution_backward(
        small,
        padded(large, stride),
        empty_weight(large, small),
        None,
        (stride, stride),
        (stride - 1, stride - 1),
        (1, 1),  # dilation
        False,  # transposed
        (0, 0),  # padding of the output
        1,  # groups
        (False, True, False),  # of the three gradients, the weight's
    )[1]
    return channels_last(grad)


def native_is_faster(
    operation: str, dtype: torch.dtype, large: Sequence[int], channels: int, stride: int
) -> bool:
    """Whether "auto" takes the native operation. By shapes alone: resuming takes the same path.

    Measured over the presets' layers (docs/kernels.md has the table), with AVX-512:

    * torch has no fast convolution in float64.
    * Torch's are poor on small maps. But ``down`` needs a large weight to gain from that: it packs
      the patches, which the direct convolution doesn't.
    * ``up`` to an image's 1 or 3 channels is 3 to 5 times as fast; so is ``down`` from 1 channel,
      since torch takes that for NCHW and puts out NCHW, which must be copied.

    Args:
        operation: "down", "up" or "weight".
        dtype: of maps and weight.
        large: shape of the large map.
        channels: those of the small map.
        stride: 1 or 2.
    """
    if dtype == torch.float64:
        return True
    _, image_channels, height, width = large
    if (height // stride) * (width // stride) <= 16:
        return operation != "down" or channels * image_channels * TAPS**2 >= 1 << 20
    return image_channels <= {"down": 1, "up": 3, "weight": 0}[operation]
