"""Registers conv's three operations with torch, when imported."""

from __future__ import annotations

from fastinfogan.kernels.conv import native
from fastinfogan.kernels.conv.layout import empty_bias, empty_large, empty_small, empty_weight
from fastinfogan.kernels.dispatch import later, register

triton = later(f"{__package__}.triton")


def _fake_down(large, weight, bias, stride, activation, slope):
    return empty_small(large, weight, stride)


def _fake_up(small, weight, bias, stride, height, width, activation, slope):
    return empty_large(small, weight, height, width)


def _fake_weight(large, small, y, slope, stride, dy_is_large, with_bias):
    return empty_weight(large, small), empty_bias(large if dy_is_large else small, with_bias)


register(
    "conv_down(Tensor large, Tensor weight, Tensor? bias, int stride, int activation, float slope) "
    "-> Tensor",
    native=native.conv_down,
    triton=triton.conv_down,
    fake=lambda impl: _fake_down,
)
register(
    "conv_up(Tensor small, Tensor weight, Tensor? bias, int stride, int height, int width, "
    "int activation, float slope) -> Tensor",
    native=native.conv_up,
    triton=triton.conv_up,
    fake=lambda impl: _fake_up,
)
register(
    "conv_weight(Tensor large, Tensor small, Tensor? y, float slope, int stride, bool dy_is_large, "
    "bool with_bias) -> (Tensor, Tensor)",
    native=native.conv_weight,
    triton=triton.conv_weight,
    fake=lambda impl: _fake_weight,
)
