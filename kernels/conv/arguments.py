"""What conv takes: every argument that is off is named, with what works."""

from __future__ import annotations

from torch import Tensor

from fastinfogan.kernels.activation import NAMED, Activation
from fastinfogan.kernels.bn_act import Normalising
from fastinfogan.kernels.checks import (
    check_between,
    check_float,
    check_same_device,
    check_same_dtype,
)
from fastinfogan.kernels.conv.layout import TAPS


def check(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    transposed: bool,
    activation: Activation,
    groups: int,
    x_slope: float,
    derived_behind: bool,
    front: Normalising | None,
) -> None:
    """The arguments of ``conv_and_sums``.

    Raises:
        ValueError: one is off.
    """
    size, ends = x.shape, weight.shape
    if x.dim() != 4 or x.numel() == 0:
        raise ValueError(f"conv: x is {tuple(size)}; (B, I, H, W), not empty, works")
    check_float("conv", "x", x)
    if groups not in (0, 1, 2) or (groups and size[0] % groups):
        raise ValueError(
            f"conv: groups={groups} with a batch of {size[0]}; 1, or 2 if the batch is even, 0 "
            "where no sums are wanted"
        )
    if stride not in (1, 2):
        raise ValueError(f"conv: stride={stride}; 1 and 2 work")
    if stride == 2 and not transposed and (size[2] < 2 or size[3] < 2):
        raise ValueError(f"conv: x is {tuple(size)}; stride=2 takes maps of 2x2 or more")
    if isinstance(activation, str):
        if activation not in NAMED:
            raise ValueError(f"conv: activation={activation!r}; a slope, {', '.join(NAMED)} work")
    else:
        check_between("conv", "activation", activation, 0, 1)
    check_between("conv", "x_slope", x_slope, 0, 1)
    if front is not None:
        if x_slope != 1:
            raise ValueError(f"conv: x_slope={x_slope} with front, which has its own; 1 works")
        front.check(x)
    if derived_behind and isinstance(activation, str):
        raise ValueError(f"conv: derived_behind with activation={activation!r}; a slope works")
    if weight.dim() != 4 or ends[2:] != (TAPS, TAPS) or weight.numel() == 0:
        raise ValueError(f"conv: weight is {tuple(ends)}; its kernel must be 4x4")
    inputs, outputs = (ends[0], ends[1]) if transposed else (ends[1], ends[0])
    if size[1] != inputs:
        raise ValueError(
            f"conv: weight is {tuple(ends)} with transposed={transposed}: it takes "
            f"{inputs} channels, and x has {size[1]}"
        )
    if bias is not None and bias.shape != (outputs,):
        raise ValueError(
            f"conv: bias is {tuple(bias.shape)}, and weight puts out {outputs} channels"
        )
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None:
            check_same_dtype("conv", name, tensor, "x", x)
            check_same_device("conv", name, tensor, "x", x)
