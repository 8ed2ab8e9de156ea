"""Where each code's random words lie, and its columns of G's input, for all implementations."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastinfogan.kernels.codes import Code

_COLUMNS = 4  # of the table


def word_columns(noise: int, codes: Sequence[Code]) -> tuple[list[int], int]:
    """The first column of words of each code, and how many columns there are in all."""
    columns, free = [], noise + noise % 2
    for code in codes:
        words = code.row.random_words
        free += -free % words  # a pair is aligned
        columns.append(free)
        free += words
    return columns, free


class Layout(NamedTuple):
    """Noise and codes as the registered op takes them.

    Attributes:
        table: four numbers per code, one code after the other: its kind's number, its width in G's
            input, its column of words, and its column of G's input.
        words: columns of words.
        width: of G's input.
    """

    table: tuple[int, ...]
    words: int
    width: int


def layout_of(noise: int, codes: Sequence[Code]) -> Layout:
    """Where ``noise`` columns of noise and the codes after them lie."""
    columns, words = word_columns(noise, codes)
    table, width = [], noise
    for code, column in zip(codes, columns, strict=True):
        table += [code.row.number, code.input_width, column, width]
        width += code.input_width
    return Layout(tuple(table), words, width)


@functools.cache  # for good: a CUDA graph has the address
def table_on_device(table: tuple[int, ...], device: torch.device) -> Tensor:
    """The table as an int64 tensor, copied to the device once."""
    return torch.tensor(table, device=device)


def empty_results(
    seed: Tensor, table: Sequence[int], batch: int, width: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Room for G's input (batch, width), ``dtype``, and the values (batch, codes), float32."""
    values = seed.new_empty((batch, len(table) // _COLUMNS), dtype=torch.float32)
    return seed.new_empty((batch, width), dtype=dtype), values
