"""What conv's three operations write, empty: shapes, in channels-last memory."""

from __future__ import annotations

from torch import Tensor

from fastinfogan.kernels.channels_last import empty_maps, pixel_matrix

TAPS = 4  # of the kernel, along either axis
IMAGE_CHANNELS = 4  # a map with no more than these is an image


def empty_small(large: Tensor, weight: Tensor, stride: int) -> Tensor:
    """What ``down`` writes: (B, M, H / stride, W / stride), rounded down."""
    rows, columns = large.shape[2] // stride, large.shape[3] // stride
    return empty_maps(large, large.shape[0], weight.shape[0], rows, columns)


def empty_large(small: Tensor, weight: Tensor, height: int, width: int) -> Tensor:
    """What ``up`` writes: (B, C, height, width)."""
    return empty_maps(small, small.shape[0], weight.shape[1], height, width)


def empty_weight(large: Tensor, small: Tensor) -> Tensor:
    """What ``weight`` writes: (M, C, 4, 4)."""
    return empty_maps(large, small.shape[1], large.shape[1], TAPS, TAPS)


def empty_bias(dy: Tensor, wanted: bool) -> Tensor:
    """What else ``weight`` writes: (O,), with dy (B, O, H, W); nothing if it isn't wanted."""
    return dy.new_empty(dy.shape[1] if wanted else 0)


def bias_gradient(dy: Tensor, wanted: bool) -> Tensor:
    """The sum over pixels where it is no kernel's business; like ``empty_bias``."""
    return pixel_matrix(dy).sum(0) if wanted else empty_bias(dy, wanted)
