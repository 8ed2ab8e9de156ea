"""dense on the CPU: the launchers of ``native/dense.cpp``."""

from __future__ import annotations

import functools
from array import array
from collections.abc import Sequence

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
    y, *hidden = results = empty_results(x, weights, biases, kinds, slopes)
    arrays = _constants(x.shape[1], tuple(map(len, weights)), tuple(kinds), tuple(slopes))
    lists = [_addresses(tensors) for tensors in (weights, biases, hidden)]
    NATIVE.dense_forward(
        *_shape(x, weights),
        *map(_place, arrays),
        x.data_ptr(),
        *map(_place, lists),
        y.data_ptr(),
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
    arrays = _constants(x.shape[1], tuple(map(len, weights)), tuple(kinds), tuple(slopes))
    own = iter(gradients[wants_x:])
    dweights = [next(own) for _ in weights if wants_parameters]
    dbiases = [next(own) if has else None for has in biased if wants_parameters]
    lists = [_addresses(tensors) for tensors in (weights, hidden, dweights, dbiases)]
    places = [_place(numbers) for numbers in lists]
    NATIVE.dense_backward(
        *_shape(x, weights),
        *map(_place, arrays),
        dy.data_ptr(),
        x.data_ptr(),
        y.data_ptr(),
        places[0],
        places[1],
        gradients[0].data_ptr() if wants_x else 0,
        *(places[2:] if wants_parameters else (0, 0)),
    )
    return gradients


def _shape(x: Tensor, weights: Sequence[Tensor]) -> tuple[int, int, int, int, bool]:
    rows = x.shape[0]
    products = rows * sum(weight.numel() for weight in weights)
    threads = products >= WORTH_THREADS
    return NATIVE_DTYPES[x.dtype], rows, padded(rows, x.dtype), len(weights), threads


@functools.lru_cache
def _constants(
    inputs: int, outputs: tuple[int, ...], kinds: tuple[int, ...], slopes: tuple[float, ...]
) -> tuple[array, array, array]:
    """Sizes of all maps, activations and slopes, where a kernel reads them."""
    return array("q", (inputs, *outputs)), array("q", kinds), array("d", slopes)


def _addresses(tensors: Sequence[Tensor | None]) -> array:
    """To outlive the call that reads it."""
    return array("q", [address(tensor) for tensor in tensors])


def _place(numbers: array) -> int:
    return numbers.buffer_info()[0]
