"""Layers called again and again with as many rows, by hand: whatever can be is done beforehand."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import torch
from torch import Tensor

from fastinfogan.kernels.dense.layout import empty_gradients, empty_results
from fastinfogan.kernels.dense.native import addresses, place, shape_of
from fastinfogan.kernels.dispatch import NATIVE


class Prepared:
    """Small layers on the CPU, both ways, without autograd, which takes longer than they do.

    Results and gradients lie in the same memory call after call: each lasts until the next one.
    Nothing is checked.

    Args:
        rows: of what goes in.
        weights: by layer, (O, I), contiguous, of one of ``layout.DTYPES``; ``layout.fits`` holds.
            They may change, but not move.
        biases: by layer, (O,), or None.
        kinds, slopes: by layer, its activation as ``activation.numbered`` has it.
    """

    def __init__(
        self,
        rows: int,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor | None],
        kinds: Sequence[int],
        slopes: Sequence[float],
    ) -> None:
        x = weights[0].new_empty((rows, weights[0].shape[1]))
        biased = [bias is not None for bias in biases]
        with torch.no_grad():
            results = empty_results(x, weights, biases, kinds, slopes)
            made = empty_gradients(
                results[0], x, results, weights, biased, kinds, slopes, True, True
            )
        self._results = results  # of which the kernel gets addresses, as of the weights
        self._parameters = *weights, *biases
        self._y, self._dx, self.gradients = results[0], made[0], made[1:]
        count = len(weights)
        own = iter(self.gradients[count:])
        dbiases = [next(own) if has else None for has in biased]
        lists = (weights, biases, results[1:], self.gradients[:count], dbiases)
        self._arrays: list[array] = [addresses(tensors) for tensors in lists]
        places = [place(numbers) for numbers in self._arrays]
        shape, constants = shape_of(x, weights, kinds, slopes)
        self._constants = constants  # which the addresses are of
        self._head = *shape, *map(place, constants)
        self._forward = *places[:3], self._y.data_ptr()
        self._between = self._y.data_ptr(), places[0], places[2]
        self._learnt = (*places[3:],)
        self._x = x

    def forward(self, x: Tensor) -> Tensor:
        """(B, I), contiguous, gives (B, O) of the last layer."""
        self._x = x
        NATIVE.dense_forward(*self._head, x.data_ptr(), *self._forward)
        return self._y

    def backward(self, dy: Tensor, wants_x: bool, learns: bool) -> Tensor | None:
        """The gradients of the last call of ``forward``.

        Args:
            dy: (B, O), contiguous.
            wants_x: return that of x.
            learns: leave those of the weights, and then of the biases, in ``gradients``.
        """
        NATIVE.dense_backward(
            *self._head,
            dy.data_ptr(),
            self._x.data_ptr(),
            *self._between,
            self._dx.data_ptr() if wants_x else 0,
            *(self._learnt if learns else (0, 0)),
        )
        return self._dx if wants_x else None
