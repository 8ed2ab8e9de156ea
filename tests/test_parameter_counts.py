"""The presets' rows against the paper's tables: parameters counted by hand."""

from __future__ import annotations

import pytest
import torch

from fastinfogan.config import PRESETS, preset_config
from fastinfogan.model.networks import Discriminator, Generator

# Trained numbers per network, layer by layer: weights, then biases, or batchnorm's pair.
BY_HAND = {
    "mnist": (
        74 * 1024 + 2 * 1024
        + 1024 * 6272 + 2 * 6272  # 6,272 = 7 * 7 * 128
        + 128 * 64 * 16 + 2 * 64
        + 64 * 1 * 16 + 1,
        1 * 64 * 16 + 64
        + 64 * 128 * 16 + 2 * 128
        + 6272 * 1024 + 2 * 1024
        + 1024 * 1 + 1
        + 1024 * 128 + 2 * 128 + 128 * 12 + 12,  # Q: 10 logits, 2 means
    ),
    "svhn": (
        168 * 1792 + 2 * 1792  # 168 = 124 + 4 * 10 + 4; 1,792 = 2 * 2 * 448
        + 448 * 256 * 16 + 2 * 256
        + 256 * 128 * 16 + 128
        + 128 * 64 * 16 + 64
        + 64 * 3 * 16 + 3,
        3 * 64 * 16 + 64
        + 64 * 128 * 16 + 2 * 128
        + 128 * 256 * 16 + 2 * 256
        + 4096 * 1 + 1
        + 4096 * 128 + 2 * 128 + 128 * 48 + 48,  # Q: 4 * 10 logits, 4 means, 4 sigmas
    ),
    "celeba": (
        228 * 1792 + 2 * 1792  # 228 = 128 + 10 * 10
        + 448 * 256 * 16 + 2 * 256
        + 256 * 128 * 16 + 128
        + 128 * 64 * 16 + 64
        + 64 * 3 * 16 + 3,
        3 * 64 * 16 + 64
        + 64 * 128 * 16 + 2 * 128
        + 128 * 256 * 16 + 2 * 256
        + 4096 * 1 + 1
        + 4096 * 128 + 2 * 128 + 128 * 100 + 100,
    ),
    "faces-azimuth": (
        133 * 1024 + 2 * 1024  # 133 = 128 + 5
        + 1024 * 8192 + 2 * 8192  # 8,192 = 8 * 8 * 128
        + 128 * 64 * 16 + 2 * 64
        + 64 * 1 * 16 + 1,
        1 * 64 * 16 + 64
        + 64 * 128 * 16 + 2 * 128
        + 8192 * 1024 + 2 * 1024
        + 1024 * 1 + 1
        + 1024 * 10 + 10,  # Q shares all but the last layer: 5 means, 5 sigmas
    ),
    "rendered-faces": (  # as above, but 9 = 4 + 5, and 5 means alone: sigma is fixed
        9 * 1024 + 2 * 1024 + 1024 * 8192 + 2 * 8192 + 128 * 64 * 16 + 2 * 64 + 64 * 1 * 16 + 1,
        1 * 64 * 16 + 64 + 64 * 128 * 16 + 2 * 128 + 8192 * 1024 + 2 * 1024
        + 1024 * 1 + 1 + 1024 * 5 + 5,
    ),
    "chairs-rotation": (
        189 * 1024 + 2 * 1024  # 189 = 128 + 3 * 20 + 1
        + 1024 * 16384 + 2 * 16384  # 16,384 = 8 * 8 * 256
        + 2 * (256 * 256 * 16 + 2 * 256)
        + 256 * 128 * 16 + 2 * 128
        + 128 * 64 * 16 + 2 * 64
        + 64 * 1 * 16 + 1,
        1 * 64 * 16 + 64
        + 64 * 128 * 16 + 2 * 128
        + 128 * 256 * 16 + 2 * 256
        + 2 * (256 * 256 * 16 + 2 * 256)
        + 16384 * 1024 + 2 * 1024
        + 1024 * 1 + 1
        + 1024 * 62 + 62,  # Q: 3 * 20 logits, a mean, a sigma
    ),
    "sprites": (
        6 * 64 + 2 * 64
        + 66 * 64 + 2 * 64  # at every position: 66 = 64 + x and y
        + 64 * 64 * 16 + 2 * 64
        + 64 * 32 * 16 + 2 * 32
        + 32 * 1 * 16 + 1,
        3 * 16 * 16 + 16  # 3 = 1 + x and y
        + 16 * 32 * 16 + 32
        + 32 * 64 * 16 + 64
        + 1024 * 256 + 256
        + 256 * 1 + 1
        + 256 * 6 + 6,
    ),
    "rendered-chairs": (
        22 * 128 + 2 * 128  # 22 = 16 + 6
        + 130 * 128 + 2 * 128  # at every position: 130 = 128 + x and y
        + 128 * 128 * 16 + 2 * 128
        + 128 * 64 * 16 + 2 * 64
        + 64 * 32 * 16 + 2 * 32
        + 32 * 1 * 16 + 1,
        3 * 16 * 16 + 16
        + 16 * 32 * 16 + 32
        + 32 * 64 * 16 + 64
        + 64 * 64 * 16 + 64
        + 1024 * 256 + 256
        + 256 * 1 + 1
        + 256 * 6 + 6,
    ),
    "infogan-cr": (
        8 * 128 + 2 * 128  # 8 = 3 + 5
        + 128 * 1024 + 2 * 1024  # 1,024 = 4 * 4 * 64
        + 64 * 64 * 16 + 2 * 64
        + 64 * 32 * 16 + 2 * 32
        + 32 * 32 * 16 + 2 * 32
        + 32 * 1 * 16 + 1,
        1 * 32 * 16 + 32
        + 32 * 32 * 16 + 32
        + 32 * 64 * 16 + 64
        + 64 * 64 * 16 + 64
        + 1024 * 128 + 128
        + 128 * 1 + 1
        + 128 * 128 + 128 + 128 * 8 + 8,
    ),
    "mnist-mlp": (
        26 * 256 + 256 + 256 * 784 + 784,  # 26 = 16 + 10
        784 * 128 + 128 + 128 * 1 + 1  # D
        + 784 * 128 + 128 + 128 * 10 + 10,  # Q, on a trunk of its own
    ),
    "folder": (
        142 * 4096 + 2 * 4096  # 142 = 128 + 10 + 4; 4,096 = 4 * 4 * 256
        + 256 * 128 * 16 + 2 * 128
        + 128 * 64 * 16 + 2 * 64
        + 64 * 3 * 16 + 3,
        3 * 64 * 16 + 64
        + 64 * 128 * 16 + 2 * 128
        + 128 * 256 * 16 + 2 * 256
        + 4096 * 1 + 1
        + 4096 * 128 + 2 * 128 + 128 * 14 + 14,
    ),
}  # fmt: skip
for twin, of in (
    ("faces-elevation", "faces-azimuth"),
    ("faces-lighting", "faces-azimuth"),
    ("chairs-width", "chairs-rotation"),
    ("digits", "mnist"),
):
    BY_HAND[twin] = BY_HAND[of]


def test_every_preset_is_counted():
    assert BY_HAND.keys() == PRESETS.keys()


@pytest.mark.parametrize("name", PRESETS)
def test_parameter_counts_are_those_of_the_tables(name):
    config = preset_config(name)
    with torch.device("meta"):  # shapes are enough
        networks = (
            Generator(config.architecture, config.spec),
            Discriminator(config.architecture, config.spec, config.model.separate_q),
        )
    counted = tuple(sum(p.numel() for p in network.parameters()) for network in networks)
    assert counted == BY_HAND[name]
    rows = config.architecture.rows(config.spec)
    trunks = 2 if config.model.separate_q else 1
    declared = {part: sum(r.parameters(s) for r, s, _ in rows[part]) for part in rows}
    assert declared["generator"] == BY_HAND[name][0]
    heads = declared["d_head"] + declared["q_head"]
    assert trunks * declared["trunk"] + heads == BY_HAND[name][1]
