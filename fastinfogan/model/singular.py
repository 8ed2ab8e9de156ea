"""The singular vectors that scaled weights go by (``Block.left``), found by power iteration.

Of a weight as a matrix W, rows are outputs, a step is u <- W W' u / |W W' u|, which brings u nearer
to the direction that W can make largest: sigma = |W' u| (Miyato et al. 2018, Algorithm 1).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional as F

NAME = "left"  # the buffer's, in networks of either engine


def scaled(network: nn.Module) -> Iterator[nn.Module]:
    """The layers of a network, of either engine, whose weights are scaled."""
    return (module for module in network.modules() if hasattr(module, NAME))


@torch.no_grad()
def turn(network: nn.Module, steps: int = 1) -> None:
    """Bring the vector of each weight that is scaled nearer to its singular vector.

    Args:
        network: of either engine.
        steps: of power iteration.
    """
    for module in scaled(network):
        matrix = module.op.weight.flatten(1).to(module.left.dtype)
        for _ in range(steps):
            module.left.copy_(F.normalize(matrix @ (matrix.T @ module.left), dim=0))
