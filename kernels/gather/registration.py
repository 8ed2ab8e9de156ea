"""Registers the ops gather, draw and order with torch, natively and in Triton, when imported."""

from __future__ import annotations

import torch

from fastinfogan.kernels.dispatch import later, register
from fastinfogan.kernels.gather import native
from fastinfogan.kernels.gather.layout import empty_result

triton = later(f"{__package__}.triton")


def _fake_gather(images, indices, low, high, dtype):
    return empty_result(images, indices.shape[0], dtype)


def _fake_draw(images, seed, position, shift, batch, low, high, dtype):
    return empty_result(images, batch, dtype)


def _fake_order(positions, count, seed):
    return torch.empty_like(positions)


register(
    "gather(Tensor images, Tensor indices, float low, float high, ScalarType dtype) -> Tensor",
    native=native.gather,
    triton=triton.gather,
    fake=lambda impl: _fake_gather,
)
register(
    "draw(Tensor images, Tensor seed, Tensor position, SymInt shift, SymInt batch, float low, "
    "float high, ScalarType dtype) -> Tensor",
    native=native.draw,
    triton=triton.draw,
    fake=lambda impl: _fake_draw,
)
register(
    "order(Tensor positions, int count, Tensor seed) -> Tensor",
    native=native.order,
    triton=triton.order,
    fake=lambda impl: _fake_order,
)
