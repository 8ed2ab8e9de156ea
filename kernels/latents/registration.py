"""Registers the op latents with torch, natively and in Triton, when imported."""

from __future__ import annotations

from fastinfogan.kernels.dispatch import later, register
from fastinfogan.kernels.latents import native
from fastinfogan.kernels.latents.layout import empty_results

triton = later(f"{__package__}.triton")


def _fake_latents(seed, offset, shift, batch, noise, table, words, width, dtype):
    return empty_results(seed, table, batch, width, dtype)


register(
    "latents(Tensor seed, Tensor offset, SymInt shift, SymInt batch, int noise, int[] table, "
    "int words, int width, ScalarType dtype) -> (Tensor, Tensor)",
    native=native.latents,
    triton=triton.latents,
    fake=lambda impl: _fake_latents,
)
