"""What latents takes: every argument that is off is named, with what works."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from fastinfogan.kernels.checks import (
    check_at_least,
    check_between,
    check_float_dtype,
    check_number,
    check_same_device,
)
from fastinfogan.kernels.codes import MAX_CATEGORIES, MAX_CODES, MAX_NOISE, Code, check_codes
from fastinfogan.kernels.latents.layout import Layout, layout_of


@functools.lru_cache(maxsize=256)
def read(noise: int, codes: tuple[Code, ...]) -> Layout:
    """The layout of noise and codes that ``latents`` was given.

    Raises:
        ValueError: noise, the number of codes or a number of categories is out of range, or one is
            no code.
    """
    check_between("latents", "noise", noise, 0, MAX_NOISE)
    if not 1 <= len(codes) <= MAX_CODES:
        raise ValueError(f"latents: codes has {len(codes)} of them; 1 to {MAX_CODES} work")
    check_codes("latents", codes)
    for i, code in enumerate(codes):
        if code.has_categories and not 2 <= code.categories <= MAX_CATEGORIES:
            raise ValueError(
                f"latents: codes[{i}] has {code.categories} categories; 2 to {MAX_CATEGORIES} work"
            )
    return layout_of(noise, codes)


def check(batch: int, seed: Tensor, offset: Tensor, dtype: torch.dtype) -> None:
    """The other arguments of ``latents``.

    Raises:
        ValueError: one is off.
    """
    check_at_least("latents", "batch", batch, 1)
    check_number("latents", "seed", seed)
    check_number("latents", "offset", offset)
    check_same_device("latents", "offset", offset, "seed", seed)
    check_float_dtype("latents", dtype)
