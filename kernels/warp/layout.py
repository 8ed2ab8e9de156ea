"""How maps lie in memory, for all implementations."""

from __future__ import annotations

import torch
from torch import Tensor

NUMBERS = 8  # of a map


def empty_maps(seed: Tensor, batch: int) -> Tensor:
    """Room for the maps of a batch: (batch, 8) float32, on the seed's device."""
    return seed.new_empty((batch, NUMBERS), dtype=torch.float32)
