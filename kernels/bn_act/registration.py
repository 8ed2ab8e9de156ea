"""Registers bn_act's four ops with torch, natively and in Triton, when imported."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fastinfogan.kernels.bn_act import native, triton
from fastinfogan.kernels.dispatch import Impl, accumulator, register


def _fake_partials(impl: Impl) -> Callable[..., Tensor]:
    return native.empty_partials if impl == "native" else triton.empty_partials


def _fake_forward(impl: Impl) -> Callable[..., tuple[Tensor, Tensor]]:
    def fake(x, partials, weight, bias, running_mean, running_var, slope, groups, *_):
        stats = x.new_empty((2, groups, x.shape[1]), dtype=accumulator(x.dtype))
        return torch.empty_like(x), stats

    return fake


def _fake_backward_partials(impl: Impl) -> Callable[..., Tensor]:
    fake = _fake_partials(impl)
    return lambda dy, x, weight, bias, stats, slope, groups: fake(x, groups)


def _fake_backward(impl: Impl) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    def fake(dy, x, weight, bias, stats, own, partials, slope, groups, training):
        return torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)

    return fake


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
    fake=_fake_forward,
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
    fake=_fake_backward,
)
