"""Registers the op consistency with torch, natively and in Triton, when imported."""

from __future__ import annotations

from fastinfogan.kernels.consistency.layout import empty_results
from fastinfogan.kernels.consistency.native import consistency_native
from fastinfogan.kernels.consistency.triton import consistency_triton
from fastinfogan.kernels.dispatch import register

register(
    "consistency(Tensor q_image, Tensor q_copy, int[] kinds, int[] widths) -> (Tensor, Tensor)",
    native=consistency_native,
    triton=consistency_triton,
    fake=lambda impl: empty_results,
)
