"""The first weights of networks without batchnorm: signals neither die nor grow."""

from __future__ import annotations

import pytest
import torch

from fastinfogan.config import preset_config
from fastinfogan.model.initial import initialize
from fastinfogan.model.networks import Generator


def test_with_fan_in_a_layer_s_outputs_keep_the_size_of_its_inputs():
    """Weights have a variance of 2 over the numbers that an output sums: for ReLUs, on average."""
    config = preset_config("infogan-cr")
    g = Generator(config.architecture, config.spec)
    initialize(g, config.architecture, torch.Generator().manual_seed(0))
    for block, sums in zip(g.layers, (8, 128, 64 * 4, 64 * 4, 32 * 4, 32 * 4), strict=True):
        assert block.op.weight.std().item() == pytest.approx((2 / sums) ** 0.5, rel=0.1)
