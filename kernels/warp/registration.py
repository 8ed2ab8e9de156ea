"""Registers draw_maps and warp's two ops with torch, natively and in Triton, when imported."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fastinfogan.kernels.dispatch import Impl, later, register
from fastinfogan.kernels.warp import native
from fastinfogan.kernels.warp.layout import empty_maps

triton = later(f"{__package__}.triton")


def _fake_maps(impl: Impl) -> Callable[..., Tensor]:
    return lambda seed, offset, shift, batch, *_: empty_maps(seed, batch)


def _fake_like_the_first(impl: Impl) -> Callable[..., Tensor]:
    return lambda images, *_: torch.empty_like(images)


register(
    "draw_maps(Tensor seed, Tensor offset, SymInt shift, SymInt batch, int stream, float[] ranges, "
    "float half_range) -> Tensor",
    native=native.draw_maps,
    triton=triton.draw_maps,
    fake=_fake_maps,
)
register(
    "warp_forward(Tensor x, Tensor maps, Tensor fill, float middle) -> Tensor",
    native=native.warp_forward,
    triton=triton.warp_forward,
    fake=_fake_like_the_first,
)
register(
    "warp_backward(Tensor dy, Tensor maps) -> Tensor",
    native=native.warp_backward,
    triton=triton.warp_backward,
    fake=_fake_like_the_first,
)
