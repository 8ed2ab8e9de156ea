"""A loss of outputs that lie in the same memory each time, by hand: its gradients, no autograd."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fastinfogan.kernels.checks import check_shape
from fastinfogan.kernels.codes import Code
from fastinfogan.kernels.dispatch import accumulator
from fastinfogan.kernels.mi_loss.arguments import check, read
from fastinfogan.kernels.mi_loss.native import launcher


class Prepared:
    """``d_loss`` or ``g_loss`` on the CPU, with the gradients that autograd would give, to the bit.

    Args:
        name: which of the two.
        logits: (2 B,) or (B,), float32 or float64, contiguous: where D's output will lie.
        q_params: (B, sum of the codes' ``q_width``), the same: Q's.
        codes, weights: as ``mi_loss`` has them.

    Attributes:
        dlogits, dq_params: the gradients of the last call's total; each call writes them anew.

    Raises:
        ValueError: an argument is off: the message names it.
    """

    def __init__(
        self,
        name: str,
        logits: Tensor,
        q_params: Tensor,
        codes: Sequence[Code],
        weights: Sequence[float],
    ) -> None:
        terms = read(name, tuple(codes), tuple(weights))
        self._dtype = accumulator(q_params.dtype)
        self._shape = q_params.shape[0], len(terms.kinds)
        values = q_params.new_empty(self._shape, dtype=self._dtype)
        check(name, logits, q_params, values, terms, None, None)
        for of, tensor in (("logits", logits), ("q_params", q_params)):
            if tensor.dtype != self._dtype or not tensor.is_contiguous():
                raise ValueError(
                    f"{name}: {of} is {tensor.dtype} with strides {tensor.stride()}; float32 and "
                    "float64, contiguous, work"
                )
        numbers = q_params.numel()
        grads = q_params.new_empty((numbers + logits.numel(),))
        self.dq_params, self.dlogits = grads[:numbers].view_as(q_params), grads[numbers:]
        self._name, self._total = name, q_params.new_empty(())
        self._inputs = logits, q_params  # of which the launch has the addresses
        self._launch = launcher(logits, q_params, terms.kinds, terms.widths, terms.weights, grads)

    def __call__(self, values: Tensor) -> Tensor:
        """The loss of what lies there now.

        Args:
            values: (B, len(codes)), float32 or float64.

        Returns:
            The terms, (1 + len(codes),), as ``d_loss`` has them.

        Raises:
            ValueError: values has another shape, or a category isn't one.
        """
        check_shape(self._name, "values", values, self._shape, "q_params and codes")
        means = self.dlogits.new_empty((1 + self._shape[1],))
        self._launch(values.to(self._dtype).contiguous(), means, self._total)
        return means
