"""A fully connected layer's way forward by oneDNN, which torch asks in bfloat16 alone."""

from __future__ import annotations

import torch
from torch import Tensor

# What torch.compile makes of a layer with frozen weights; None: this torch is built without oneDNN.
_LINEAR = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
HAS_ONEDNN = _LINEAR is not None


def linear_long(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """y."""
    return _LINEAR(x, weight, bias, "none", [], "")
