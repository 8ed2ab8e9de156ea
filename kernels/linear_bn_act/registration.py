"""Registers linear_bn_act's ops with torch, when imported."""

from __future__ import annotations

import torch

from fastinfogan.kernels.bn_act.layout import empty_partials
from fastinfogan.kernels.dispatch import later, multiplies, register
from fastinfogan.kernels.linear_bn_act.layout import empty_backward, empty_forward

triton = later(f"{__package__}.triton")


def _fake_forward(x, weight, scale, shift, mean, var, slope, groups, momentum, eps, keeps):
    return empty_forward(x, weight, groups, keeps)


def _fake_backward(dy, x, weight, scale, shift, z, stats, slope, groups, wants_x):
    return empty_backward(x, weight, scale, dy, wants_x)


def _fake_back(dy, x, weight, scale, shift, z, stats, slope, groups, maps, *_):
    found = empty_backward(x, weight, scale, dy, False)[1:]
    parts = maps.shape[2] * maps.shape[3] if multiplies(maps.device) else 0
    return torch.empty_like(maps), *found, empty_partials(maps, groups, parts)


register(
    "linear_bn_act_forward(Tensor x, Tensor weight, Tensor scale, Tensor shift, "
    "Tensor(a!)? running_mean, Tensor(b!)? running_var, float slope, int groups, float momentum, "
    "float eps, bool keeps) -> (Tensor, Tensor, Tensor)",
    triton=triton.linear_bn_act_forward,
    fake=lambda impl: _fake_forward,
)
register(
    "linear_bn_act_backward(Tensor dy, Tensor? x, Tensor weight, Tensor scale, Tensor shift, "
    "Tensor z, Tensor stats, float slope, int groups, bool wants_x) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
    triton=triton.linear_bn_act_backward,
    fake=lambda impl: _fake_backward,
)
register(
    "linear_bn_act_back(Tensor dy, Tensor? x, Tensor weight, Tensor scale, Tensor shift, "
    "Tensor z, Tensor stats, float slope, int groups, Tensor maps, Tensor maps_scale, "
    "Tensor maps_shift, Tensor maps_stats, float maps_slope) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    triton=triton.linear_bn_act_back,
    fake=lambda impl: _fake_back,
)
