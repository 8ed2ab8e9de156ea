"""What draw_maps and warp take: every argument that is off is named, with what works."""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from fastinfogan.kernels.checks import (
    check_at_least,
    check_between,
    check_dtype,
    check_float,
    check_number,
    check_range,
    check_same_device,
    check_shape,
    check_vector,
)
from fastinfogan.kernels.jitter import MOST, Jitter
from fastinfogan.kernels.warp.layout import NUMBERS

RANGES = tuple(f.name for f in fields(Jitter))  # in the order in which kernels get them


def check_draw_maps(
    jitter: Jitter,
    batch: int,
    seed: Tensor,
    offset: Tensor,
    stream: int,
    output_range: tuple[float, float],
) -> None:
    """What ``draw_maps`` was given.

    Raises:
        ValueError: an argument is off.
    """
    for name in RANGES:
        check_between("draw_maps", f"jitter.{name}", getattr(jitter, name), 0, getattr(MOST, name))
    check_at_least("draw_maps", "batch", batch, 1)
    check_number("draw_maps", "seed", seed)
    check_number("draw_maps", "offset", offset)
    check_same_device("draw_maps", "offset", offset, "seed", seed)
    check_at_least("draw_maps", "stream", stream, 0)
    check_range("draw_maps", output_range)


def check_warp(x: Tensor, maps: Tensor, fill: Tensor, output_range: tuple[float, float]) -> None:
    """What ``warp`` was given.

    Raises:
        ValueError: an argument is off.
    """
    if x.dim() != 4 or x.numel() == 0:
        raise ValueError(f"warp: x is {tuple(x.shape)}; (B, C, H, W), not empty, works")
    check_float("warp", "x", x)
    check_shape("warp", "maps", maps, (len(x), NUMBERS), "x")
    check_dtype("warp", "maps", maps, (torch.float32,))
    check_same_device("warp", "maps", maps, "x", x)
    check_shape("warp", "fill", fill, (x.shape[1],), "x")
    check_vector("warp", "fill", fill, torch.float32, x.device, "x")
    check_range("warp", output_range)
