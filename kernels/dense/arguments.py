"""What dense takes: every argument that is off is named, with what works."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fastinfogan.kernels.activation import Activation
from fastinfogan.kernels.checks import check_float, check_same_device, check_same_dtype


def check(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    activations: Sequence[Activation],
) -> None:
    """The arguments of ``dense``.

    Raises:
        ValueError: one is off.
    """
    if x.dim() != 2 or x.numel() == 0:
        raise ValueError(f"dense: x is {tuple(x.shape)}; (B, I), not empty, works")
    check_float("dense", "x", x)
    if not 0 < len(weights) == len(biases) == len(activations):
        counts = f"{len(weights)} weights, {len(biases)} biases, {len(activations)} activations"
        raise ValueError(f"dense: {counts}; as many of each, one or more, work")
    inputs = x.shape[1]
    for i, (weight, bias, activation) in enumerate(zip(weights, biases, activations, strict=True)):
        if weight.dim() != 2 or weight.shape[0] == 0 or weight.shape[1] != inputs:
            raise ValueError(f"dense: weights[{i}] is {tuple(weight.shape)}; (O, {inputs}) fits")
        inputs = weight.shape[0]
        if bias is not None and bias.shape != (inputs,):
            raise ValueError(f"dense: biases[{i}] is {tuple(bias.shape)}; ({inputs},) fits")
        for name, tensor in ((f"weights[{i}]", weight), (f"biases[{i}]", bias)):
            if tensor is not None:
                check_same_dtype("dense", name, tensor, "x", x)
                check_same_device("dense", name, tensor, "x", x)
        known = activation in ("sigmoid", "tanh") or (
            isinstance(activation, float | int) and 0.0 <= activation <= 1.0
        )
        if not known:
            raise ValueError(
                f"dense: activations[{i}]={activation!r}; a slope from 0 to 1, sigmoid, tanh work"
            )
