"""Registers conv's operations with torch, when imported."""

from __future__ import annotations

from torch import Tensor

from fastinfogan.kernels.bn_act.layout import empty_partials
from fastinfogan.kernels.conv import native
from fastinfogan.kernels.conv.layout import (
    empty_bias,
    empty_large,
    empty_small,
    empty_weight,
)
from fastinfogan.kernels.conv.sums import down_parts, up_parts
from fastinfogan.kernels.dispatch import later, multiplies, register

triton = later(f"{__package__}.triton")
triton_weight = later(f"{__package__}.triton_weight")


def _fake_down(large, weight, bias, stride, activation, slope):
    return empty_small(large, weight, stride)


def _fake_up(small, weight, bias, stride, height, width, activation, slope):
    return empty_large(small, weight, height, width)


def _fake_down_sums(large, weight, bias, stride, activation, slope, groups):
    small = empty_small(large, weight, stride)
    pixels = small.numel() // small.shape[1]
    parts = down_parts(pixels, small.shape[1], large.shape[1], groups)
    return small, _fake_partials(small, groups, parts)


def _fake_up_sums(small, weight, bias, stride, activation, slope, groups):
    large = empty_large(small, weight, small.shape[2] * stride, small.shape[3] * stride)
    places = small.numel() // small.shape[1]
    parts = up_parts(places, stride, large.shape[1], small.shape[1], groups)
    return large, _fake_partials(large, groups, parts)


def _fake_down_derived(large, weight, stride, x, slope):
    return empty_small(large, weight, stride)


def _fake_up_derived(small, weight, stride, x, slope):
    return empty_large(small, weight, *x.shape[2:])


def _fake_down_back(large, weight, stride, x, scale, shift, stats, slope, groups):
    return _fake_down_sums(large, weight, None, stride, None, slope, groups)


def _fake_up_back(small, weight, stride, x, scale, shift, stats, slope, groups):
    return _fake_up_sums(small, weight, None, stride, None, slope, groups)


def _fake_partials(maps: Tensor, groups: int, parts: int) -> Tensor:
    return empty_partials(maps, groups, parts if multiplies(maps.device) else 0)


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
    "conv_down_sums(Tensor large, Tensor weight, Tensor? bias, int stride, int activation, "
    "float slope, int groups) -> (Tensor, Tensor)",
    triton=triton.conv_down_sums,
    fake=lambda impl: _fake_down_sums,
)
register(
    "conv_up_sums(Tensor small, Tensor weight, Tensor? bias, int stride, int activation, "
    "float slope, int groups) -> (Tensor, Tensor)",
    triton=triton.conv_up_sums,
    fake=lambda impl: _fake_up_sums,
)
register(
    "conv_down_derived(Tensor large, Tensor weight, int stride, Tensor x, float slope) -> Tensor",
    native=native.conv_down_derived,
    triton=triton.conv_down_derived,
    fake=lambda impl: _fake_down_derived,
)
register(
    "conv_up_derived(Tensor small, Tensor weight, int stride, Tensor x, float slope) -> Tensor",
    native=native.conv_up_derived,
    triton=triton.conv_up_derived,
    fake=lambda impl: _fake_up_derived,
)
register(
    "conv_down_back(Tensor large, Tensor weight, int stride, Tensor x, Tensor scale, Tensor shift, "
    "Tensor stats, float slope, int groups) -> (Tensor, Tensor)",
    triton=triton.conv_down_back,
    fake=lambda impl: _fake_down_back,
)
register(
    "conv_up_back(Tensor small, Tensor weight, int stride, Tensor x, Tensor scale, Tensor shift, "
    "Tensor stats, float slope, int groups) -> (Tensor, Tensor)",
    triton=triton.conv_up_back,
    fake=lambda impl: _fake_up_back,
)
register(
    "conv_weight(Tensor large, Tensor small, Tensor? y, float slope, int stride, bool dy_is_large, "
    "bool with_bias) -> (Tensor, Tensor)",
    native=native.conv_weight,
    triton=triton_weight.conv_weight,
    fake=lambda impl: _fake_weight,
)
