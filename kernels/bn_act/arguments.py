"""What bn_act takes: every argument that is off is named, with what works."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from fastinfogan.kernels.checks import check_between, check_float, check_statistics, check_vector
from fastinfogan.kernels.dispatch import accumulator

Exchange = Callable[[Tensor], Tensor]  # one rank's partial sums -> those of all ranks


def check(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    slope: float,
    groups: int,
    momentum: float,
    eps: float,
    training: bool,
    exchange: Exchange | None,
    sums: Tensor | None,
) -> None:
    """The arguments of ``bn_act``.

    Raises:
        ValueError: one is off.
    """
    if x.dim() not in (2, 4) or x.numel() == 0:
        raise ValueError(f"bn_act: x is {tuple(x.shape)}; (B, C) or (B, C, H, W), not empty, work")
    check_float("bn_act", "x", x)
    if (running_mean is None) != (running_var is None):
        raise ValueError("bn_act: running_mean and running_var go together: both or neither")
    if running_mean is None and not training:
        raise ValueError("bn_act: running_mean=None needs training=True")
    channels, dtype, device = x.shape[1], accumulator(x.dtype), x.device
    for name, vector in (
        ("weight", weight),
        ("bias", bias),
        ("running_mean", running_mean),
        ("running_var", running_var),
    ):
        if vector is None:
            continue
        if vector.shape != (channels,):
            raise ValueError(
                f"bn_act: {name} is {tuple(vector.shape)}, and x has {channels} channels"
            )
        check_vector("bn_act", name, vector, dtype, device, "x")
    check_between("bn_act", "slope", slope, 0, 1)
    check_statistics("bn_act", momentum, eps)
    if groups not in (1, 2) or (training and x.shape[0] % groups):
        raise ValueError(
            f"bn_act: groups={groups} with a batch of {x.shape[0]}; 1, or 2 if the batch is even"
        )
    if training and exchange is None and x.numel() == channels * groups:
        raise ValueError(
            f"bn_act: x is {tuple(x.shape)} with groups={groups}: one value per channel has no "
            "variance to train with"
        )
    if sums is None:
        return
    if not training or exchange is not None:
        raise ValueError("bn_act: sums need training=True and exchange=None")
    if sums.dim() != 4 or sums.shape[1:] != (3, groups, channels):
        raise ValueError(
            f"bn_act: sums are {tuple(sums.shape)}; (parts, 3, {groups}, {channels}) works"
        )
    check_vector("bn_act", "sums", sums, dtype, device, "x")
