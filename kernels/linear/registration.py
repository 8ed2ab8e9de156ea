"""Registers linear's three ops with torch, in Triton, when imported."""

from __future__ import annotations

from fastinfogan.kernels.dispatch import later, register
from fastinfogan.kernels.linear.layout import empty_gradients, empty_weight

triton = later(f"{__package__}.triton")


def _fake_forward(x, weight, bias):
    return x.new_empty((x.shape[0], weight.shape[0]))


register(
    "linear_forward(Tensor x, Tensor weight, Tensor? bias) -> Tensor",
    triton=triton.linear_forward,
    fake=lambda impl: _fake_forward,
)
register(
    "linear_backward(Tensor dy, Tensor? x, Tensor weight, Tensor? dtail) "
    "-> (Tensor, Tensor, Tensor)",
    triton=triton.linear_backward,
    fake=lambda impl: empty_gradients,
)
register(
    "linear_weight(Tensor dy, Tensor x) -> (Tensor, Tensor)",
    triton=triton.linear_weight,
    fake=lambda impl: empty_weight,
)
