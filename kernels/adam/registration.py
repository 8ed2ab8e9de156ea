"""Registers the op adam with torch, natively and in Triton, when imported."""

from __future__ import annotations

from collections.abc import Callable

from fastinfogan.kernels.adam import native, triton
from fastinfogan.kernels.dispatch import Impl, register


def _fake_adam(impl: Impl) -> Callable[..., None]:
    return lambda *arguments: None


register(
    "adam(Tensor(a!) params, Tensor[] grads, Tensor(b!) exp_avg, Tensor(c!) exp_avg_sq, "
    "Tensor(d!) step, Tensor lr, Tensor(e!)? copy, Tensor? inverse_scale, Tensor? found_inf, "
    "float beta1, float beta2, float eps) -> ()",
    native=native.adam,
    triton=triton.adam,
    fake=_fake_adam,
)
