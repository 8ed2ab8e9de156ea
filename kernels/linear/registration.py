"""Registers linear's ops with torch, when imported."""

from __future__ import annotations

from fastinfogan.kernels.dispatch import later, register
from fastinfogan.kernels.linear import native
from fastinfogan.kernels.linear.layout import empty_back, empty_gradients, empty_weight
from fastinfogan.kernels.linear.library import linear_long

triton = later(f"{__package__}.triton")


def _fake_forward(x, weight, bias):
    return x.new_empty((x.shape[0], weight.shape[0]))


register(
    "linear_forward(Tensor x, Tensor weight, Tensor? bias) -> Tensor",
    native=native.linear_forward,
    triton=triton.linear_forward,
    fake=lambda impl: _fake_forward,
)
# (An op of ours: torch.compile wants the weight of oneDNN's to be a constant.)
register(
    "linear_long(Tensor x, Tensor weight, Tensor? bias) -> Tensor",
    native=linear_long,
    fake=lambda impl: _fake_forward,
)


def _fake_input(dy, weight):
    return dy.new_empty((dy.shape[0], weight.shape[1]))


register(
    "linear_input(Tensor dy, Tensor weight) -> Tensor",
    native=native.linear_input,
    fake=lambda impl: _fake_input,
)
register(
    "linear_backward(Tensor dy, Tensor? x, Tensor weight, Tensor? dtail) "
    "-> (Tensor, Tensor, Tensor)",
    triton=triton.linear_backward,
    fake=lambda impl: empty_gradients,
)


def _fake_back(dy, x, weight, dtail, maps, scale, shift, stats, slope, groups):
    return empty_back(dy, x, weight, dtail, maps, groups)


register(
    "linear_back(Tensor dy, Tensor? x, Tensor weight, Tensor? dtail, Tensor maps, Tensor scale, "
    "Tensor shift, Tensor stats, float slope, int groups) -> (Tensor, Tensor, Tensor, Tensor)",
    triton=triton.linear_back,
    fake=lambda impl: _fake_back,
)
register(
    "linear_weight(Tensor dy, Tensor x) -> (Tensor, Tensor)",
    native=native.linear_weight,
    triton=triton.linear_weight,
    fake=lambda impl: empty_weight,
)
