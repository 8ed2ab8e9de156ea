"""Registers the op adam with torch, natively and in Triton, when imported."""

from __future__ import annotations

from fastinfogan.kernels.adam import native
from fastinfogan.kernels.dispatch import later, register

triton = later(f"{__package__}.triton")

register(
    "adam(Tensor(a!) params, Tensor[] grads, Tensor(b!) exp_avg, Tensor(c!) exp_avg_sq, "
    "Tensor(d!) step, Tensor lr, Tensor(e!)? copy, Tensor? inverse_scale, Tensor? found_inf, "
    "float beta1, float beta2, float eps) -> ()",
    native=native.adam,
    triton=triton.adam,
    fake=lambda impl: lambda *arguments: None,
)
