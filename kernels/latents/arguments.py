"""What latents takes: every argument that is off is named, with what works."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from fastinfogan.kernels.codes import (
    MAX_CATEGORIES,
    MAX_CODES,
    MAX_NOISE,
    Code,
    check_kinds,
)
from fastinfogan.kernels.dispatch import NATIVE_DTYPES
from fastinfogan.kernels.latents.layout import Layout, layout_of

_DTYPES = (*NATIVE_DTYPES, torch.float16)


@functools.lru_cache(maxsize=256)
def read(noise: int, codes: tuple[Code, ...]) -> Layout:
    """The layout of noise and codes that ``latents`` was given.

    Raises:
        ValueError: noise, the number of codes or a number of categories is out of range, or a kind
            of code is unknown.
    """
    if not 0 <= noise <= MAX_NOISE:
        raise ValueError(f"latents: noise={noise}; 0 to {MAX_NOISE} work")
    if not 1 <= len(codes) <= MAX_CODES:
        raise ValueError(f"latents: codes has {len(codes)} of them; 1 to {MAX_CODES} work")
    check_kinds("latents", codes)
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
    if batch < 1:
        raise ValueError(f"latents: batch={batch}; 1 or more work")
    for name, tensor in (("seed", seed), ("offset", offset)):
        if tensor.dtype != torch.int64 or tensor.shape != (1,):
            raise ValueError(
                f"latents: {name} is {tensor.dtype} of shape {tuple(tensor.shape)}; "
                "it must be torch.int64 of shape (1,)"
            )
    if offset.device != seed.device:
        raise ValueError(f"latents: offset is on {offset.device}, and seed on {seed.device}")
    if dtype not in _DTYPES:
        raise ValueError(f"latents: dtype={dtype}; a float of 16, 32 or 64 bits works")
