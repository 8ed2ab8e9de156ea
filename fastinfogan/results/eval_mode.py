"""Eval mode, which networks must be in while they are measured or drawn from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def eval_device(*networks: nn.Module) -> torch.device:
    """The device of networks that are about to be measured or drawn from.

    In training mode a picture would depend on the rest of its batch, and drawing it would change
    the running statistics of batchnorm.

    Args:
        networks: one or more, all on one device.

    Raises:
        ValueError: a network isn't in eval mode.
    """
    if any(network.training for network in networks):
        raise ValueError("the networks must be in eval mode")
    parameter = next(networks[0].parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


@contextmanager
def in_eval_mode(*networks: nn.Module) -> Iterator[None]:
    """Put networks into eval mode for a while, then back into the mode they were in."""
    before = [network.training for network in networks]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for network, training in zip(networks, before, strict=True):
            network.train(training)
