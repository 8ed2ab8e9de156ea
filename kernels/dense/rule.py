"""Which layers are dense's kernel's, by shapes alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastinfogan.kernels.activation import TANH

MOST_WEIGHTS = 1 << 18  # of a layer: 1 MB, which stays in a core's second-level cache
MOST_ROWS = 1 << 10


def fits(rows: int, weights: Sequence[Sequence[int]], kinds: Sequence[int]) -> bool:
    """Whether these layers are the kernel's work.

    Larger ones are a library's, which rearranges a weight before it multiplies.

    Args:
        rows: of what goes in.
        weights: by layer, its weight's shape.
        kinds: by layer, its activation as ``activation.numbered`` has it.
    """
    small = all(math.prod(shape) <= MOST_WEIGHTS for shape in weights)
    return small and rows <= MOST_ROWS and TANH not in kinds
