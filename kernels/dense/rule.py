"""Which layers are dense's kernel's, by shapes alone."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fastinfogan.kernels.activation import TANH

MOST_WEIGHTS = 1 << 18  # of a layer: 1 MB, which stays in a core's second-level cache
MOST_ROWS = 1 << 10


def fits(rows: int, weights: Sequence[Tensor], kinds: Sequence[int]) -> bool:
    """Whether these layers are the kernel's work, by their shapes alone.

    Larger ones are a library's, which rearranges a weight before it multiplies.
    """
    small = all(weight.numel() <= MOST_WEIGHTS for weight in weights)
    return small and rows <= MOST_ROWS and TANH not in kinds
