"""Registers linear_bn_act's ops with torch, when imported."""

from __future__ import annotations

from fastinfogan.kernels.dispatch import later, register
from fastinfogan.kernels.linear_bn_act.layout import empty_backward, empty_forward

triton = later(f"{__package__}.triton")


def _fake_forward(x, weight, scale, shift, mean, var, slope, groups, momentum, eps, keeps):
    return empty_forward(x, weight, groups, keeps)


def _fake_backward(dy, x, weight, scale, shift, z, stats, slope, groups, wants_x):
    return empty_backward(x, weight, scale, dy, wants_x)


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
