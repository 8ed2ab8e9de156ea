"""An update with several ranks' gradients: their mean, in float32; nothing, if one isn't finite."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fastinfogan.engine.flat import FlatAdam
from fastinfogan.engine.loss_scale import LossScale
from fastinfogan.ranks.alone import Ranks
from fastinfogan.ranks.place import Place

BETAS = (0.5, 0.999)


class Other(Ranks):
    """Two ranks; the other's gradients are all ``value``."""

    def __init__(self, value):
        super().__init__(Place(0, 2))
        self.value, self.seen = value, []

    def mean(self, tensor):
        self.seen.append((tensor.dtype, tensor.numel()))
        return tensor.add_(self.value).div_(2)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Conv2d(2, 3, 3)).to(
        memory_format=torch.channels_last
    )


def updated(gradients, ranks=None, half=None, loss_scale=None):
    """The weights after one update, and the buffer's numbers."""
    net = network()
    adam = FlatAdam(net, 1e-2, BETAS, half)
    if ranks is not None:
        adam.share(ranks)
    for parameter, gradient in zip(adam.trained, gradients, strict=True):
        parameter.grad = gradient.to(parameter.dtype)
    adam.step(loss_scale)
    return [p.detach().clone() for p in net.parameters()], len(adam._flat)


@pytest.fixture
def gradients():
    random = torch.Generator().manual_seed(1)
    return [torch.randn(p.shape, generator=random) for p in network().parameters()]


@pytest.mark.parametrize("half", [None, torch.bfloat16])
def test_the_mean_of_all_ranks_is_what_counts(gradients, half):
    """Bit for bit, in whatever order a gradient lies, in one collective of one float32 buffer."""
    other = Other(0.25)
    together, numbers = updated(gradients, other, half)
    if half is not None:  # linear maps' gradients come in it; their mean isn't rounded to it
        is_norm = (False, False, True, True, False, False)
        pairs = zip(gradients, is_norm, strict=True)
        gradients = [g if norm else g.to(half).float() for g, norm in pairs]
    means = [(g + 0.25) / 2 for g in gradients]
    alone, _ = updated(means, None)
    assert all(torch.equal(a, b) for a, b in zip(together, alone, strict=True))
    assert other.seen == [(torch.float32, numbers)]


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_gradient_of_another_rank_that_is_not_finite_stops_this_one_too(gradients, value):
    before = [p.detach().clone() for p in network().parameters()]
    scale = LossScale(torch.device("cpu"))
    after, _ = updated(gradients, Other(value), loss_scale=scale)
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
    scale.update()
    assert scale.value.item() == 32768.0
