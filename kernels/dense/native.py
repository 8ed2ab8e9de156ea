"""dense on the CPU: the launchers of ``native/dense.cpp``."""

from __future__ import annotations

import functools
from array import array
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from fastinfogan.kernels.dense.layout import empty_gradients, empty_results, padded
from fastinfogan.kernels.dispatch import NATIVE, NATIVE_DTYPES, address

# Multiplications of a call from which a second thread pays.
WORTH_THREADS = 1 << 19


def dense_forward(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    kinds: Sequence[int],
    slopes: Sequence[float],
) -> list[Tensor]:
    """The output, then the hidden maps."""
    results = empty_results(x, weights, biases, kinds, slopes)
    shape, constants = shape_of(x, weights, kinds, slopes)
    lists = [addresses(tensors) for tensors in (weights, biases, results[1:])]
    NATIVE.dense_forward(
        *shape,
        *map(place, constants),
        x.data_ptr(),
        *map(place, lists),
        results[0].data_ptr(),
    )
    return results


def dense_backward(
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
    """The gradients that are wanted, as ``layout.empty_gradients`` has them."""
    y, *hidden = results
    gradients = empty_gradients(
        dy, x, results, weights, biased, kinds, slopes, wants_x, wants_parameters
    )
    shape, constants = shape_of(x, weights, kinds, slopes)
    own = iter(gradients[wants_x:])
    dweights = [next(own) for _ in weights if wants_parameters]
    dbiases = [next(own) if has else None for has in biased if wants_parameters]
    lists = [addresses(tensors) for tensors in (weights, hidden, dweights, dbiases)]
    places = [place(numbers) for numbers in lists]
    NATIVE.dense_backward(
        *shape,
        *map(place, constants),
        dy.data_ptr(),
        x.data_ptr(),
        y.data_ptr(),
        places[0],
        places[1],
        gradients[0].data_ptr() if wants_x else 0,
        *(places[2:] if wants_parameters else (0, 0)),
    )
    return gradients


_Shape = tuple[int, int, int, int, bool]  # the kernel's DenseShape


def shape_of(
    x: Tensor, weights: Sequence[Tensor], kinds: Sequence[int], slopes: Sequence[float]
) -> tuple[_Shape, tuple[array, array, array]]:
    """The kernel's DenseShape; sizes, activations and slopes by layer, where it reads them."""
    sizes = x.shape[1], *[weight.shape[0] for weight in weights]
    return _constants(x.dtype, x.shape[0], sizes, tuple(kinds), tuple(slopes))


@functools.lru_cache
def _constants(
    dtype: torch.dtype,
    rows: int,
    sizes: tuple[int, ...],
    kinds: tuple[int, ...],
    slopes: tuple[float, ...],
) -> tuple[_Shape, tuple[array, array, array]]:
    """The shape; sizes of all maps, activations and slopes, where a kernel reads them."""
    threads = rows * sum(a * b for a, b in pairwise(sizes)) >= WORTH_THREADS
    shape = NATIVE_DTYPES[dtype], rows, padded(rows, dtype), len(kinds), threads
    return shape, (array("q", sizes), array("q", kinds), array("d", slopes))


def addresses(tensors: Sequence[Tensor | None]) -> array:
    """Of tensors, 0 for None; to outlive the call that reads it."""
    return array("q", [address(tensor) for tensor in tensors])


def place(numbers: array) -> int:
    """Where a kernel finds them."""
    return numbers.buffer_info()[0]
