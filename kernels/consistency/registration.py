"""Registers the op consistency with torch, natively and in Triton, when imported."""

from __future__ import annotations

from fastinfogan.kernels.consistency import native
from fastinfogan.kernels.consistency.layout import empty_results
from fastinfogan.kernels.dispatch import later, register

triton = later(f"{__package__}.triton")

register(
    "consistency(Tensor q_image, Tensor q_copy, int[] kinds, int[] widths, Tensor? seed=None) "
    "-> (Tensor, Tensor)",
    native=native.consistency,
    triton=triton.consistency,
    fake=lambda impl: empty_results,
)
