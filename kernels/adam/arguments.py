"""What adam takes: every argument that is off is named, with what works."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fastinfogan.kernels.adam.layout import offsets
from fastinfogan.kernels.checks import (
    check_dtype,
    check_same_device,
    check_shape,
    check_tensor,
    check_vector,
)
from fastinfogan.kernels.dispatch import TRITON_DTYPES

_TINY = torch.finfo(torch.float32).tiny


def check(
    params: Tensor,
    grads: Sequence[Tensor],
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    step: Tensor,
    lr: Tensor,
    beta1: float,
    beta2: float,
    eps: float,
    copy: Tensor | None,
    inverse_scale: Tensor | None,
    found_inf: Tensor | None,
) -> None:
    """The arguments of ``adam``.

    Raises:
        ValueError: one is off.
    """
    _check_flat(params, exp_avg, exp_avg_sq, copy)
    _check_scalars(params, step, lr, inverse_scale, found_inf, beta1, beta2, eps)
    _check_grads(params, grads)


def _check_flat(params: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, copy: Tensor | None) -> None:
    dtype, shape, device = params.dtype, params.shape, params.device
    check_dtype("adam", "params", params, (torch.float32, torch.float64))
    if params.dim() != 1 or not 0 < params.numel() < 2**31:
        raise ValueError(f"adam: params is {tuple(shape)}; (n,) with 0 < n < 2^31 works")
    for name, flat in (("params", params), ("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq)):
        check_shape("adam", name, flat, shape, "params")
        check_vector("adam", name, flat, dtype, device, "params")
    if copy is None:
        return
    check_dtype("adam", "copy", copy, (torch.bfloat16, torch.float16))
    check_shape("adam", "copy", copy, shape, "params")
    check_vector("adam", "copy", copy, copy.dtype, device, "params")
    if dtype != torch.float32:
        raise ValueError(f"adam: copy needs params of float32, and they are {dtype}")


def _check_scalars(
    params: Tensor,
    step: Tensor,
    lr: Tensor,
    inverse_scale: Tensor | None,
    found_inf: Tensor | None,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    for name, scalar, dtypes in (
        ("step", step, (torch.int64,)),
        ("lr", lr, (torch.float32, params.dtype)),
        ("inverse_scale", inverse_scale, (torch.float32,)),
        ("found_inf", found_inf, (torch.float32,)),
    ):
        if scalar is None:
            continue
        check_dtype("adam", name, scalar, dtypes)
        if scalar.dim() > 1 or scalar.numel() != 1:
            raise ValueError(f"adam: {name} is {tuple(scalar.shape)}; () and (1,) work")
        check_same_device("adam", name, scalar, "params", params)
    for name, beta in (("beta1", beta1), ("beta2", beta2)):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"adam: {name}={beta}; 0 to below 1 work")
    if not _TINY <= eps < math.inf:
        raise ValueError(f"adam: eps={eps}; {_TINY:.2g} or more works")


def _check_grads(params: Tensor, grads: Sequence[Tensor]) -> None:
    if isinstance(grads, Tensor):
        raise ValueError("adam: grads is a tensor; a sequence of them works, one per segment")
    if not grads:
        raise ValueError("adam: grads is empty; it needs one gradient or more")
    dtype, device = params.dtype, params.device
    works = (torch.float64,) if dtype == torch.float64 else TRITON_DTYPES
    for i, grad in enumerate(grads):
        check_tensor("adam", f"grads[{i}]", grad)
        if grad.dtype not in works:
            text = "float64 works" if len(works) == 1 else "float32, bfloat16 and float16 work"
            raise ValueError(f"adam: grads[{i}] is {grad.dtype}; with params of {dtype} {text}")
        if grad.device != device:
            raise ValueError(f"adam: grads[{i}] is on {grad.device}, and params on {device}")
        if grad.numel() == 0:
            raise ValueError(f"adam: grads[{i}] is {tuple(grad.shape)}; it must not be empty")
        if not (grad.is_contiguous() or _is_dense(grad)):
            raise ValueError(
                f"adam: grads[{i}] has strides {grad.stride()} and shape {tuple(grad.shape)}; it "
                "must fill its memory without gaps or overlaps, in the order of its segment"
            )
    total = offsets([g.numel() for g in grads])[1]
    if total != params.numel():
        raise ValueError(
            f"adam: grads fill segments of {total} numbers in all, and params has "
            f"{params.numel()}; see adam.offsets"
        )


def _is_dense(tensor: Tensor) -> bool:
    """Whether the tensor is a permutation of a contiguous one."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size == 1:  # its stride is never used
            continue
        if stride != expected:
            return False
        expected *= size
    return True
