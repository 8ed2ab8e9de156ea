"""Registers the op behind mi_loss, d_loss and g_loss with torch, when imported."""

from __future__ import annotations

from fastinfogan.kernels.dispatch import later, register
from fastinfogan.kernels.mi_loss import native
from fastinfogan.kernels.mi_loss.layout import empty_results

triton = later(f"{__package__}.triton")

register(
    "mi_loss(Tensor? logits, Tensor q_params, Tensor values, int[] kinds, int[] widths, "
    "float[] weights, Tensor? seed=None, Tensor(a!)? tally=None) -> (Tensor, Tensor, Tensor)",
    native=native.mi_loss,
    triton=triton.mi_loss,
    fake=lambda impl: empty_results,
)
