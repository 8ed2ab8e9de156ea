"""The first weights of networks whose architecture asks for a layer's own size."""

from __future__ import annotations

import pytest
import torch

from fastinfogan.config import preset_config
from fastinfogan.model.initial import initialize
from fastinfogan.model.networks import Generator


@pytest.mark.parametrize(
    ("preset", "variance", "summed"),
    [
        # For ReLUs, on average, a layer's outputs keep the size of its inputs.
        ("infogan-cr", 2, (8, 128, 64 * 4, 64 * 4, 32 * 4, 32 * 4)),
        ("sprites", 1 / 3, (6, 66, 64 * 16, 64 * 4, 32 * 4)),
    ],
)
def test_weights_have_a_variance_over_the_numbers_that_an_output_sums(preset, variance, summed):
    config = preset_config(preset)
    g = Generator(config.architecture, config.spec)
    initialize(g, config.architecture, torch.Generator().manual_seed(0))
    for block, sums in zip(g.layers, summed, strict=True):
        assert block.op.weight.std().item() == pytest.approx((variance / sums) ** 0.5, rel=0.1)
