"""What gather, draw and order take: every argument that is off is named, with what works."""

from __future__ import annotations

import torch
from torch import Tensor

from fastinfogan.kernels.checks import (
    check_at_least,
    check_float_dtype,
    check_number,
    check_range,
    check_vector,
)

Range = tuple[float, float]


def check_gather(images: Tensor, indices: Tensor, output_range: Range, dtype: torch.dtype) -> None:
    """The arguments of ``gather``, but not the indices themselves.

    Raises:
        ValueError: one is off.
    """
    _check_images("gather", images, output_range, dtype)
    if indices.dtype != torch.int64 or indices.dim() != 1 or indices.numel() == 0:
        raise ValueError(
            f"gather: indices is {indices.dtype} of shape {tuple(indices.shape)}; it must be "
            "torch.int64 of shape (B,), not empty"
        )
    check_vector("gather", "indices", indices, torch.int64, images.device, "images")


def check_indices(images: Tensor, indices: Tensor) -> None:
    """Every index is an image's; waits for the indices.

    Raises:
        ValueError: one isn't.
    """
    outside = ((indices < 0) | (indices >= len(images))).nonzero()
    if len(outside):
        raise no_image(images, indices, int(outside[0]))


def no_image(images: Tensor, indices: Tensor, row: int) -> ValueError:
    """The error to raise where ``indices[row]`` is no image's."""
    return ValueError(
        f"gather: indices[{row}] is {indices[row].item()}; 0 to {len(images) - 1} work"
    )


def check_draw(
    images: Tensor,
    batch: int,
    seed: Tensor,
    position: Tensor,
    output_range: Range,
    dtype: torch.dtype,
) -> None:
    """The arguments of ``draw``.

    Raises:
        ValueError: one is off.
    """
    _check_images("draw", images, output_range, dtype)
    check_at_least("draw", "batch", batch, 1)
    _check_number("draw", "seed", seed, images.device)
    _check_number("draw", "position", position, images.device)


def check_order(positions: Tensor, count: int, seed: Tensor) -> None:
    """The arguments of ``order``.

    Raises:
        ValueError: one is off.
    """
    if positions.dtype != torch.int64 or positions.numel() == 0:
        raise ValueError(
            f"order: positions is {positions.dtype} of shape {tuple(positions.shape)}; "
            "it must be torch.int64 and not empty"
        )
    check_at_least("order", "count", count, 1)
    _check_number("order", "seed", seed, positions.device)


def _check_images(op: str, images: Tensor, output_range: Range, dtype: torch.dtype) -> None:
    if images.dim() != 4 or images.dtype != torch.uint8 or images.numel() == 0:
        raise ValueError(
            f"{op}: images is {images.dtype} of shape {tuple(images.shape)}; "
            "it must be torch.uint8 of shape (N, H, W, C), not empty"
        )
    if not images.is_contiguous():
        raise ValueError(f"{op}: images has strides {images.stride()}; it must be contiguous")
    check_range(op, output_range)
    check_float_dtype(op, dtype)


def _check_number(op: str, name: str, tensor: Tensor, device: torch.device) -> None:
    check_number(op, name, tensor)
    if tensor.device != device:
        raise ValueError(f"{op}: {name} is on {tensor.device}; {device} works")
