"""The weights that networks begin with."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fastinfogan.config import INIT_STD, Architecture
from fastinfogan.model.singular import scaled, turn

POWER_STEPS = 15  # of power iteration


class Undrawn(TorchFunctionMode):
    """For networks that are filled next, by ``initialize`` or from a file.

    The weights and biases of linear maps made inside hold whatever the memory held: torch's own
    first values, drawn one by one on a single core, are left out.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if function in (nn.init.kaiming_uniform_, nn.init.uniform_):
            tensor: Tensor = kwargs["tensor"]
            return tensor
        return function(*args, **(kwargs or {}))


@torch.no_grad()
def initialize(network: nn.Module, architecture: Architecture, generator: torch.Generator) -> None:
    """Weights N(0, architecture.init_std), batchnorm scales N(1, 0.02), biases and shifts 0.

    The draws depend on the order of the modules and on ``generator`` (a CPU one) alone. Singular
    vectors of weights that are scaled by them begin near the largest.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            draw = torch.randn(module.weight.shape, generator=generator)
            module.weight.copy_(draw.mul_(architecture.init_std(_fan_in(module))))
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            draw = torch.randn(module.weight.shape, generator=generator)
            module.weight.copy_(1.0 + draw * INIT_STD)
            module.bias.zero_()

    for module in scaled(network):
        module.left.copy_(torch.randn(module.left.shape, generator=generator))
    turn(network, POWER_STEPS)


def _fan_in(module: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> int:
    """How many numbers an output is a sum of."""
    if isinstance(module, nn.ConvTranspose2d):  # of its taps only some meet an input
        return module.weight[:, 0].numel() // math.prod(module.stride)
    return module.weight[0].numel()
