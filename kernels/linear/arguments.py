"""What linear takes: every argument that is off is named, with what works."""

from __future__ import annotations

from torch import Tensor

from fastinfogan.kernels.checks import (
    check_between,
    check_float,
    check_same_device,
    check_same_dtype,
    check_shape,
)


def check(x: Tensor, weight: Tensor, bias: Tensor | None, tail: int) -> None:
    """The arguments of ``linear`` and ``linear_and_tail``.

    Raises:
        ValueError: one is off.
    """
    if x.dim() != 2 or x.numel() == 0:
        raise ValueError(f"linear: x is {tuple(x.shape)}; (B, I), not empty, works")
    check_float("linear", "x", x)
    if weight.dim() != 2 or weight.shape[0] == 0 or weight.shape[1] != x.shape[1]:
        raise ValueError(f"linear: weight is {tuple(weight.shape)}; (O, {x.shape[1]}) fits x")
    if bias is not None:
        check_shape("linear", "bias", bias, (weight.shape[0],), "weight")
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None:
            check_same_dtype("linear", name, tensor, "x", x)
            check_same_device("linear", name, tensor, "x", x)
    check_between("linear", "tail", tail, 0, x.shape[0])
