"""Registers dense's two ops with torch, natively, when imported."""

from __future__ import annotations

from fastinfogan.kernels.dense import native
from fastinfogan.kernels.dense.layout import empty_gradients, empty_results
from fastinfogan.kernels.dispatch import register

register(
    "dense_forward(Tensor x, Tensor[] weights, Tensor?[] biases, int[] kinds, float[] slopes) "
    "-> Tensor[]",
    native=native.dense_forward,
    fake=lambda impl: empty_results,
)
register(
    "dense_backward(Tensor dy, Tensor x, Tensor[] results, Tensor[] weights, bool[] biased, "
    "int[] kinds, float[] slopes, bool wants_x, bool wants_parameters) -> Tensor[]",
    native=native.dense_backward,
    fake=lambda impl: empty_gradients,
)
