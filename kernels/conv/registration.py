"""Registers conv's three native operations with torch, when imported."""

from __future__ import annotations

from fastinfogan.kernels.conv import native
from fastinfogan.kernels.conv.layout import empty_large, empty_small, empty_weight
from fastinfogan.kernels.dispatch import register


def _fake_down(large, weight, bias, stride):
    return empty_small(large, weight, stride)


def _fake_up(small, weight, bias, stride, height, width):
    return empty_large(small, weight, height, width)


def _fake_weight(large, small, stride):
    return empty_weight(large, small)


register(
    "conv_down(Tensor large, Tensor weight, Tensor? bias, int stride) -> Tensor",
    native=native.conv_down,
    fake=lambda impl: _fake_down,
)
register(
    "conv_up(Tensor small, Tensor weight, Tensor? bias, int stride, int height, int width) "
    "-> Tensor",
    native=native.conv_up,
    fake=lambda impl: _fake_up,
)
register(
    "conv_weight(Tensor large, Tensor small, int stride) -> Tensor",
    native=native.conv_weight,
    fake=lambda impl: _fake_weight,
)
