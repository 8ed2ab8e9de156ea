"""The first weights of networks: their size, where a layer has its own, and none drawn twice."""

from __future__ import annotations

import pytest
import torch

from fastinfogan.config import preset_config
from fastinfogan.model.initial import Undrawn, initialize
from fastinfogan.model.networks import Discriminator, Generator


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


@pytest.mark.parametrize("preset", ["mnist", "mnist-mlp", "sprites"])
def test_networks_to_be_filled_draw_nothing_and_begin_with_the_same_weights(preset):
    config = preset_config(preset)

    def filled():
        networks = (
            Generator(config.architecture, config.spec),
            Discriminator(config.architecture, config.spec),
        )
        random = torch.Generator().manual_seed(0)
        for network in networks:
            initialize(network, config.architecture, random)
        return [network.state_dict() for network in networks]

    torch.manual_seed(0)
    before = torch.get_rng_state()
    with Undrawn():
        undrawn = filled()
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(undrawn, filled(), rtol=0, atol=0)
    assert not torch.equal(torch.get_rng_state(), before)  # which shows what was left out
