"""What conv's Triton kernels do with a product's numbers before they are rounded."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Follows(NamedTuple):
    """What follows a product.

    Attributes:
        activation, slope: see ``activation.numbered``.
        before: a map like the result, that a slope made: the slope's derivative is multiplied with.
        before_slope: that slope.
        normalised: scale, shift and statistics of a batchnorm before that slope, whose input
            ``before`` is then: only the sums of its backward pass are found.
    """

    activation: int
    slope: float
    before: Tensor | None = None
    before_slope: float = 1.0
    normalised: tuple[Tensor | None, Tensor | None, Tensor | None] = (None, None, None)

    def unsummed(self) -> Follows:
        """Where no sums are found."""
        if self.normalised[0] is None:
            return self
        return Follows(self.activation, self.slope)
