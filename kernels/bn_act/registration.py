"""Registers bn_act's four ops with torch, natively and in Triton, when imported."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from fastinfogan.kernels.bn_act import native
from fastinfogan.kernels.bn_act.layout import (
    empty_gradients,
    empty_partials,
    empty_results,
    sizes_of,
)
from fastinfogan.kernels.dispatch import Impl, later, register

triton = later(f"{__package__}.triton")


def _fake_partials(impl: Impl) -> Callable[..., Tensor]:
    if impl == "triton":  # merged by the kernel
        return lambda x, groups: empty_partials(x, groups, 1)
    return lambda x, groups: empty_partials(x, groups, native.parts_of(*sizes_of(x, groups)))


def _fake_forward(x, partials, weight, bias, running_mean, running_var, slope, groups, *_):
    return empty_results(x, groups)


def _fake_backward_partials(impl: Impl) -> Callable[..., Tensor]:
    fake = _fake_partials(impl)
    return lambda dy, x, weight, bias, stats, slope, groups: fake(x, groups)


def _fake_backward(dy, x, weight, bias, *_):
    return empty_gradients(x, weight, bias)


register(
    "bn_act_partials(Tensor x, int groups) -> Tensor",
    native=native.bn_act_partials,
    triton=triton.bn_act_partials,
    fake=_fake_partials,
)
register(
    "bn_act_forward(Tensor x, Tensor? partials, Tensor weight, Tensor bias, "
    "Tensor(a!)? running_mean, Tensor(b!)? running_var, float slope, int groups, float momentum, "
    "float eps, bool training) -> (Tensor, Tensor)",
    native=native.bn_act_forward,
    triton=triton.bn_act_forward,
    fake=lambda impl: _fake_forward,
)
register(
    "bn_act_backward_partials(Tensor dy, Tensor x, Tensor weight, Tensor bias, Tensor stats, "
    "float slope, int groups) -> Tensor",
    native=native.bn_act_backward_partials,
    triton=triton.bn_act_backward_partials,
    fake=_fake_backward_partials,
)
register(
    "bn_act_backward(Tensor dy, Tensor x, Tensor weight, Tensor bias, Tensor stats, Tensor? own, "
    "Tensor? partials, float slope, int groups, bool training) -> (Tensor, Tensor, Tensor)",
    native=native.bn_act_backward,
    triton=triton.bn_act_backward,
    fake=lambda impl: _fake_backward,
)
