"""What a kernel of mi_loss reads of the codes, and where it puts its results.

A loss is a sum of terms: term 0 is the adversarial one, term 1 + i that of code i.
"""

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
        terms: (terms, 3) int32: number of the code's kind, first column of q_params, width; the
            kind is 0 for a code that isn't regularised, and for term 0.
        weights: (terms,) of the accumulator's dtype.
        counter: (1,) int32, 0 between launches.
    """

    terms: Tensor
    weights: Tensor
    counter: Tensor


@functools.cache  # for good: a CUDA graph has the address
def weights_on_device(
    weights: tuple[float, ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Copied to the device once: a copy in every call would wait for the device."""
    with torch.inference_mode(False):  # whoever asks first, the next one may want a gradient
        return torch.tensor(weights, dtype=dtype, device=device)


@functools.cache  # for good: a CUDA graph has the addresses
def table_on_device(
    kinds: tuple[int, ...],
    widths: tuple[int, ...],
    weights: tuple[float, ...],
    dtype: torch.dtype,
    device: torch.device,
    stream: int,
) -> Table:
    """Copied to the device once. Launches of one stream share a counter; streams do not."""
    rows, first = [(0, 0, 0)], 0
    for kind, width in zip(kinds, widths, strict=True):
        rows.append((kind, first, width))
        first += width
    return Table(
        torch.tensor(rows, dtype=torch.int32, device=device),
        weights_on_device((1.0, *weights), dtype, device),
        torch.zeros(1, dtype=torch.int32, device=device),
    )


def add_to(tally: Tensor, terms: Tensor, both: bool) -> None:
    """D's terms (``both``), or G's, to what a tally counts: see ``d_loss``."""
    if both:
        tally[0] += terms[0]
        tally[2:] += terms[1:]
    else:
        tally[1] += terms[0]


Results = tuple[Tensor, Tensor, Tensor]  # total (), means (terms,), grads (numbers of both inputs,)


def empty_results(
    logits: Tensor | None,
    q_params: Tensor,
    values: Tensor,
    kinds: Sequence[int],
    widths: Sequence[int],
    weights: Sequence[float],
    seed: Tensor | None = None,
    tally: Tensor | None = None,
) -> Results:
    """Room for the results of the registered op, from its arguments.

    With a seed the gradients are what the backward pass hands on, in the inputs' dtype.
    """
    dtype = accumulator(q_params.dtype)
    numbers = q_params.numel() + (0 if logits is None else logits.numel())
    return (
        q_params.new_empty((), dtype=dtype),
        q_params.new_empty((1 + len(kinds),), dtype=dtype),
        q_params.new_empty((numbers,), dtype=dtype if seed is None else q_params.dtype),
    )
