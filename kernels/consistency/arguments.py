"""What consistency takes: every argument that is off is named, with what works."""

from __future__ import annotations

import functools
from typing import NamedTuple

from torch import Tensor

from fastinfogan.kernels.checks import (
    check_float,
    check_same_device,
    check_same_dtype,
    check_seed,
    check_shape,
)
from fastinfogan.kernels.codes import Code, check_codes
from fastinfogan.kernels.dispatch import accumulator


def takes_part(code: Code) -> bool:
    """Whether Q's look at this code should agree."""
    return code.regularized and code.is_discrete


class Terms(NamedTuple):
    """The codes as the registered op takes them.

    Attributes:
        kinds: number of each code's kind; 0 if it takes no part.
        widths: columns of each code in Q's output.
    """

    kinds: tuple[int, ...]
    widths: tuple[int, ...]


@functools.lru_cache(maxsize=256)
def read(codes: tuple[Code, ...]) -> Terms:
    """The codes that ``consistency`` was given.

    Raises:
        ValueError: one is no code, or none takes part.
    """
    check_codes("consistency", codes)
    if not any(map(takes_part, codes)):
        raise ValueError(
            "consistency: codes has no categorical or Bernoulli code that is regularised; "
            "one at least must take part"
        )
    return Terms(
        tuple(code.row.number if takes_part(code) else 0 for code in codes),
        tuple(code.q_width for code in codes),
    )


def check(q_image: Tensor, q_copy: Tensor, terms: Terms, seed: Tensor | None) -> None:
    """The tensors that ``consistency`` was given.

    Raises:
        ValueError: one is off.
    """
    columns = sum(terms.widths)
    if q_copy.dim() != 2 or q_copy.shape[0] == 0 or q_copy.shape[1] != columns:
        raise ValueError(
            f"consistency: q_copy is {tuple(q_copy.shape)}; (B, {columns}) fits the codes"
        )
    check_float("consistency", "q_copy", q_copy)
    check_shape("consistency", "q_image", q_image, tuple(q_copy.shape), "q_copy")
    check_same_dtype("consistency", "q_image", q_image, "q_copy", q_copy)
    check_same_device("consistency", "q_image", q_image, "q_copy", q_copy)
    check_seed("consistency", seed, accumulator(q_copy.dtype), q_copy.device)
