"""What a kernel of consistency reads of the codes, and where it puts its results."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastinfogan.kernels.dispatch import accumulator


class Table(NamedTuple):
    """What a kernel reads of the codes, on its device.

    Attributes:
        terms: (codes, 3) int32: number of the code's kind, or 0 if it takes no part; its first
            column of Q's output, and how many.
        counter: (1,) int32, 0 between launches.
    """

    terms: Tensor
    counter: Tensor


@functools.cache  # for good: a CUDA graph has the addresses
def table_on_device(
    kinds: tuple[int, ...], widths: tuple[int, ...], device: torch.device, stream: int
) -> Table:
    """Copied to the device once. Launches of one stream share a counter; streams do not."""
    rows, first = [], 0
    for kind, width in zip(kinds, widths, strict=True):
        rows.append((kind, first, width))
        first += width
    return Table(
        torch.tensor(rows, dtype=torch.int32, device=device),
        torch.zeros(1, dtype=torch.int32, device=device),
    )


Results = tuple[Tensor, Tensor]  # loss (), grads like q_copy


def empty_results(
    q_image: Tensor,
    q_copy: Tensor,
    kinds: Sequence[int],
    widths: Sequence[int],
    seed: Tensor | None = None,
) -> Results:
    """Room for the results of the registered op, from its arguments.

    With a seed the gradient is what the backward pass hands on, in q_copy's dtype.
    """
    dtype = accumulator(q_copy.dtype)
    grads = q_copy.new_empty(q_copy.shape, dtype=dtype if seed is None else q_copy.dtype)
    return q_copy.new_empty((), dtype=dtype), grads
