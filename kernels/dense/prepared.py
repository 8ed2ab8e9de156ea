"""Layers called again and again with as many rows, by hand: whatever can be is done beforehand."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import torch
from torch import Tensor

from fastinfogan.kernels.dense.layout import DTYPES, empty_gradients, empty_results
from fastinfogan.kernels.dense.native import addresses, place, shape_of
from fastinfogan.kernels.dense.rule import fits
from fastinfogan.kernels.dispatch import NATIVE


class Prepared:
    """Small layers on the CPU, both ways, without autograd, which takes longer than they do.

    Results and gradients lie in the same memory call after call: each lasts until the next one.

    Args:
        rows: of what goes in.
        weights: by layer, (O, I), contiguous, of one of ``layout.DTYPES``; ``rule.fits`` holds.
            They may change, but not move.
        biases: by layer, (O,), or None.
        kinds, slopes: by layer, its activation as ``activation.numbered`` has it.
        y: (rows, O of the last layer), contiguous: where the result shall lie. None: in memory of
            its own.

    Attributes:
        y: the result of the last call of ``forward``.
        gradients: of the weights, then of the biases that there are.

    Raises:
        ValueError: an argument is off: the message names it.
    """

    def __init__(
        self,
        rows: int,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor | None],
        kinds: Sequence[int],
        slopes: Sequence[float],
        y: Tensor | None = None,
    ) -> None:
        shapes = [tuple(weight.shape) for weight in weights]
        if not fits(rows, shapes, kinds):
            raise ValueError(f"dense: rows={rows}, weights {shapes}: rule.fits says which work")
        x = weights[0].new_empty((rows, weights[0].shape[1]))
        biased = [bias is not None for bias in biases]
        with torch.no_grad():
            results = empty_results(x, weights, biases, kinds, slopes)
            made = empty_gradients(
                results[0], x, results, weights, biased, kinds, slopes, True, True
            )
        if y is not None:
            _check("y", y, results[0].shape, results[0].dtype)
            results[0] = y
        self._parameters = [p for p in (*weights, *biases) if p is not None]
        inputs = x.shape[1]
        for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            _check(f"weights[{i}]", weight, (weight.shape[0], inputs), x.dtype)
            inputs = weight.shape[0]
            if bias is not None:
                _check(f"biases[{i}]", bias, (inputs,), x.dtype)
        self._inputs = x.shape, x.dtype
        self._outputs = results[0].shape, x.dtype
        self._hidden = results[1:]  # of which the kernel gets addresses, as of the weights
        self.y, self._dx, self.gradients = results[0], made[0], made[1:]
        count = len(weights)
        own = iter(self.gradients[count:])
        dbiases = [next(own) if has else None for has in biased]
        lists = (weights, biases, self._hidden, self.gradients[:count], dbiases)
        self._arrays: list[array] = [addresses(tensors) for tensors in lists]
        self._lie = _places(self._parameters)
        places = [place(numbers) for numbers in self._arrays]
        shape, constants = shape_of(x, weights, kinds, slopes)
        self._constants = constants  # which the addresses are of
        self._head = *shape, *map(place, constants)
        self._forward = *places[:3], self.y.data_ptr()
        self._between = self.y.data_ptr(), places[0], places[2]
        self._learnt = (*places[3:],)
        self._x, self._dy = x, self.y

    def forward(self, x: Tensor) -> Tensor:
        """(rows, I), contiguous, gives (rows, O) of the last layer.

        Raises:
            ValueError: x is something else.
            RuntimeError: a weight or a bias has moved.
        """
        if x is not self._x:
            _check("x", x, *self._inputs)
            self._x = x
        if _places(self._parameters) != self._lie:
            raise RuntimeError("dense: a weight or a bias has moved since this was prepared")
        NATIVE.dense_forward(*self._head, x.data_ptr(), *self._forward)
        return self.y

    def backward(self, dy: Tensor, wants_x: bool, learns: bool) -> Tensor | None:
        """The gradients of the last call of ``forward``.

        Args:
            dy: (rows, O), contiguous.
            wants_x: return that of x.
            learns: leave those of the weights, and then of the biases, in ``gradients``.

        Raises:
            ValueError: dy is something else.
        """
        if dy is not self._dy:
            _check("dy", dy, *self._outputs)
            self._dy = dy
        NATIVE.dense_backward(
            *self._head,
            dy.data_ptr(),
            self._x.data_ptr(),
            *self._between,
            self._dx.data_ptr() if wants_x else 0,
            *(self._learnt if learns else (0, 0)),
        )
        return self._dx if wants_x else None


def _places(tensors: Sequence[Tensor]) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


def _check(name: str, tensor: Tensor, shape: Sequence[int], dtype: torch.dtype) -> None:
    """The kernel gets its address, and looks at nothing."""
    if tensor.dtype not in DTYPES:
        raise ValueError(f"dense: {name} is {tensor.dtype}; float32 and float64 work")
    if tensor.dtype != dtype or tensor.shape != shape or not tensor.is_contiguous():
        raise ValueError(
            f"dense: {name} is {tensor.dtype} of shape {tuple(tensor.shape)} with strides "
            f"{tensor.stride()}; {dtype} of shape {tuple(shape)}, contiguous, works"
        )
