"""What linear_bn_act takes: every argument that is off is named, with what works."""

from __future__ import annotations

from torch import Tensor

from fastinfogan.kernels.bn_act.arguments import Exchange
from fastinfogan.kernels.checks import (
    check_between,
    check_float,
    check_same_device,
    check_same_dtype,
    check_statistics,
    check_vector,
)
from fastinfogan.kernels.dispatch import accumulator


def check(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    slope: float,
    groups: int,
    momentum: float,
    eps: float,
    training: bool,
    exchange: Exchange | None,
) -> None:
    """The arguments of ``linear_bn_act``.

    Raises:
        ValueError: one is off.
    """
    op = "linear_bn_act"
    if x.dim() != 2 or x.numel() == 0:
        raise ValueError(f"{op}: x is {tuple(x.shape)}; (B, I), not empty, works")
    check_float(op, "x", x)
    if weight.dim() != 2 or weight.shape[0] == 0 or weight.shape[1] != x.shape[1]:
        raise ValueError(f"{op}: weight is {tuple(weight.shape)}; (O, {x.shape[1]}) fits x")
    check_same_dtype(op, "weight", weight, "x", x)
    check_same_device(op, "weight", weight, "x", x)
    if (running_mean is None) != (running_var is None):
        raise ValueError(f"{op}: running_mean and running_var go together: both or neither")
    if running_mean is None and not training:
        raise ValueError(f"{op}: running_mean=None needs training=True")
    outputs = weight.shape[0]
    for name, vector in (
        ("scale", scale),
        ("shift", shift),
        ("running_mean", running_mean),
        ("running_var", running_var),
    ):
        if vector is None:
            continue
        if vector.shape != (outputs,):
            raise ValueError(
                f"{op}: {name} is {tuple(vector.shape)}, and weight has {outputs} outputs"
            )
        check_vector(op, name, vector, accumulator(x.dtype), x.device, "x")
    check_between(op, "slope", slope, 0, 1)
    check_statistics(op, momentum, eps)
    if groups not in (1, 2) or (training and x.shape[0] % groups):
        raise ValueError(
            f"{op}: groups={groups} with a batch of {x.shape[0]}; 1, or 2 if the batch is even"
        )
    if training and exchange is None and x.shape[0] == groups:
        raise ValueError(
            f"{op}: x is {tuple(x.shape)} with groups={groups}: one value per output has no "
            "variance to train with"
        )
