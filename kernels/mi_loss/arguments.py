"""What mi_loss, d_loss and g_loss take: every argument that is off is named, with what works."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastinfogan.kernels.checks import (
    check_dtype,
    check_float,
    check_same_device,
    check_same_dtype,
    check_seed,
    check_shape,
    check_vector,
)
from fastinfogan.kernels.codes import KINDS, Code, check_codes
from fastinfogan.kernels.dispatch import accumulator


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
def read(op: str, codes: tuple[Code, ...], weights: tuple[float, ...]) -> Terms:
    """The codes and weights that ``op`` was given.

    Raises:
        ValueError: one is no code, there are more or fewer weights than codes, or one isn't
            finite.
    """
    check_codes(op, codes)
    if len(codes) != len(weights):
        raise ValueError(f"{op}: weights has {len(weights)} numbers for {len(codes)} codes")
    for weight in weights:
        if not abs(weight) < math.inf:
            raise ValueError(f"{op}: weights has a {weight}; finite numbers work")
    widths = tuple(code.q_width for code in codes)
    return Terms(
        tuple(code.row.number if code.regularized else 0 for code in codes),
        widths,
        tuple(float(weight) for weight in weights),
        sum(widths),
    )


def check(
    op: str,
    logits: Tensor | None,
    q_params: Tensor,
    values: Tensor,
    terms: Terms,
    seed: Tensor | None,
    tally: Tensor | None,
) -> None:
    """The tensors that ``op`` was given.

    Raises:
        ValueError: one is off.
    """
    if q_params.dim() != 2 or q_params.shape[0] == 0 or q_params.shape[1] != terms.columns:
        raise ValueError(
            f"{op}: q_params is {tuple(q_params.shape)}; (B, {terms.columns}) fits the codes"
        )
    check_float(op, "q_params", q_params)
    batch = q_params.shape[0]
    check_shape(op, "values", values, (batch, len(terms.kinds)), "q_params and codes")
    check_dtype(op, "values", values, (torch.float32, torch.float64))
    if values.requires_grad:
        raise ValueError(f"{op}: values requires grad, and has none here; values.detach() works")
    check_same_device(op, "values", values, "q_params", q_params)
    check_seed(op, seed, accumulator(q_params.dtype), q_params.device)
    if tally is not None:
        check_shape(op, "tally", tally, (2 + len(terms.kinds),), "the codes")
        check_vector(op, "tally", tally, torch.float64, q_params.device, "q_params")
    if logits is None:
        return
    length = 2 * batch if op == "d_loss" else batch
    if logits.shape != (length,):
        raise ValueError(
            f"{op}: logits is {tuple(logits.shape)}; ({length},) fits q_params' batch of {batch}"
        )
    check_same_dtype(op, "logits", logits, "q_params", q_params)
    check_same_device(op, "logits", logits, "q_params", q_params)


def check_categories(op: str, values: Tensor, terms: Terms) -> None:
    """Every category is an integer in [0, K); waits for the values.

    Raises:
        ValueError: one isn't.
    """
    width = values.new_tensor(terms.widths)
    categorical = torch.tensor(terms.kinds) == KINDS["categorical"].number
    valid = (values >= 0) & (values < width) & (values == values.floor()) | ~categorical
    if not valid.all():
        raise no_category(op, values, int(valid.flatten().int().argmin()), terms.widths)


def no_category(op: str, values: Tensor, index: int, widths: Sequence[int]) -> ValueError:
    """The error to raise where the flattened ``values[index]`` is no category of its code."""
    row, code = divmod(index, len(widths))
    return ValueError(
        f"{op}: values[{row}, {code}] is {values[row, code].item():g}; "
        f"the code's categories are the integers 0 to {widths[code] - 1}"
    )
