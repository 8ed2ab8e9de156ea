"""What dense's implementations agree on: number types, how a hidden map lies, what is written."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.float64)  # half precision is the library's
PADDING = 64  # bytes that a row of a hidden map is a multiple of: any vector's


def padded(rows: int, dtype: torch.dtype) -> int:
    """Columns of a hidden map."""
    wide = PADDING // dtype.itemsize
    return (rows + wide - 1) // wide * wide


def empty_results(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    kinds: Sequence[int],
    slopes: Sequence[float],
) -> list[Tensor]:
    """What forward writes, from its arguments: y, then the hidden maps, (features, padded rows)."""
    rows = x.shape[0]
    wide = padded(rows, x.dtype)
    hidden = [x.new_empty((weight.shape[0], wide)) for weight in weights[:-1]]
    return [x.new_empty((rows, weights[-1].shape[0])), *hidden]


def empty_gradients(
    dy: Tensor,
    x: Tensor,
    results: Sequence[Tensor],
    weights: Sequence[Tensor],
    biased: Sequence[bool],
    kinds: Sequence[int],
    slopes: Sequence[float],
    wants_x: bool,
    wants_parameters: bool,
) -> list[Tensor]:
    """What backward writes: dx, if wanted; the weights' gradients, then the biases', if wanted."""
    gradients = [torch.empty_like(x)] if wants_x else []
    if wants_parameters:
        gradients += [torch.empty_like(weight) for weight in weights]
        pairs = zip(weights, biased, strict=True)
        gradients += [weight.new_empty((weight.shape[0],)) for weight, has in pairs if has]
    return gradients
