"""What mi_loss, d_loss and g_loss take: every argument that is off is named, with what works."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastinfogan.kernels.codes import KINDS, Code, check_kinds
from fastinfogan.kernels.dispatch import NATIVE_DTYPES

_DTYPES = (*NATIVE_DTYPES, torch.float16)


class Terms(NamedTuple):
    """Codes and weights as the registered op takes them.

    Attributes:
        kinds: number of each code's kind; 0 if it isn't regularised.
        widths: columns of each code in q_params.
        weights: lambda of each code.
        columns: of q_params.
    """

    kinds: tuple[int, ...]
    widths: tuple[int, ...]
    weights: tuple[float, ...]
    columns: int


@functools.lru_cache(maxsize=256)
def read(name: str, codes: tuple[Code, ...], weights: tuple[float, ...]) -> Terms:
    """The codes and weights that ``name`` was given.

    Raises:
        ValueError: there are more or fewer weights than codes, one isn't finite, or a kind of
            code is unknown.
    """
    if len(codes) != len(weights):
        raise ValueError(f"{name}: weights has {len(weights)} numbers for {len(codes)} codes")
    for weight in weights:
        if not abs(weight) < math.inf:
            raise ValueError(f"{name}: weights has a {weight}; finite numbers work")
    check_kinds(name, codes)
    widths = tuple(code.q_width for code in codes)
    return Terms(
        tuple(code.row.number if code.regularized else 0 for code in codes),
        widths,
        tuple(float(weight) for weight in weights),
        sum(widths),
    )


def check(name: str, logits: Tensor | None, q_params: Tensor, values: Tensor, terms: Terms) -> None:
    """The tensors that ``name`` was given.

    Raises:
        ValueError: one is off.
    """
    count = len(terms.kinds)
    if q_params.dim() != 2 or q_params.shape[0] == 0 or q_params.shape[1] != terms.columns:
        raise ValueError(
            f"{name}: q_params is {tuple(q_params.shape)}; (B, {terms.columns}) fits the codes"
        )
    if q_params.dtype not in _DTYPES:
        raise ValueError(
            f"{name}: q_params is {q_params.dtype}; it must be a float of 16, 32 or 64 bits"
        )
    batch = q_params.shape[0]
    if values.shape != (batch, count):
        raise ValueError(
            f"{name}: values is {tuple(values.shape)}; ({batch}, {count}) fits q_params and codes"
        )
    if values.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name}: values is {values.dtype}; float32 and float64 work")
    if values.requires_grad:
        raise ValueError(f"{name}: values requires grad, and has none here; values.detach() works")
    if values.device != q_params.device:
        raise ValueError(f"{name}: values is on {values.device}, and q_params on {q_params.device}")
    if logits is None:
        return
    length = 2 * batch if name == "d_loss" else batch
    if logits.shape != (length,):
        raise ValueError(
            f"{name}: logits is {tuple(logits.shape)}; ({length},) fits q_params' batch of {batch}"
        )
    if logits.dtype != q_params.dtype:
        raise ValueError(
            f"{name}: logits is {logits.dtype}, and q_params {q_params.dtype}; one dtype works"
        )
    if logits.device != q_params.device:
        raise ValueError(f"{name}: logits is on {logits.device}, and q_params on {q_params.device}")


def check_categories(name: str, values: Tensor, terms: Terms) -> None:
    """Every category is an integer in [0, K); waits for the values.

    Raises:
        ValueError: one isn't.
    """
    width = values.new_tensor(terms.widths)
    categorical = torch.tensor(terms.kinds) == KINDS["categorical"].number
    valid = (values >= 0) & (values < width) & (values == values.floor()) | ~categorical
    if not valid.all():
        raise no_category(name, values, int(valid.flatten().int().argmin()), terms.widths)


def no_category(name: str, values: Tensor, index: int, widths: Sequence[int]) -> ValueError:
    """The error to raise where the flattened ``values[index]`` is no category of its code."""
    row, code = divmod(index, len(widths))
    return ValueError(
        f"{name}: values[{row}, {code}] is {values[row, code].item():g}; "
        f"the code's categories are the integers 0 to {widths[code] - 1}"
    )
