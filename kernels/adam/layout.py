"""Where each parameter's numbers lie in the flat buffer that adam works on."""

from __future__ import annotations

from collections.abc import Sequence

ALIGN = 1024  # numbers; segments of the flat buffer begin at multiples of it


def offsets(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Where segments of these sizes begin in the flat buffer, and the numbers that it must have."""
    starts, total = [], 0
    for size in sizes:
        starts.append(total)
        total += -(-size // ALIGN) * ALIGN
    return starts, total
