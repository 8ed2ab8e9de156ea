"""How much is looked at: as in Locatello et al. 2019 (disentanglement_lib)."""

from __future__ import annotations

import numpy as np

POINTS, TEST_POINTS = 10_000, 5_000  # images to learn from, and to test on
FEWEST = 100  # images: of fewer, no score means anything
BINS = 20  # of a continuous code, between its smallest and its largest value
VOTES, TEST_VOTES = 10_000, 5_000  # of the FactorVAE and beta-VAE scores
BATCH = 64  # images, or pairs of images, behind one vote
LEAST_STD = 0.05  # of a code that may take part in a vote of FactorVAE's
MOST_VALUES = 64  # of a factor that classifiers are asked for: each costs one classifier or more

DESCRIPTION = (
    f"continuous codes in {BINS} bins, a categorical code as its most probable category; "
    "DCI by gradient boosted trees, SAP by linear SVMs (C = 0.01), explicitness by logistic "
    f"regressions; FactorVAE and beta-VAE scores by {VOTES:,} + {TEST_VOTES:,} votes of {BATCH}"
)


def drawn(images: int, seed: int) -> np.ndarray:
    """Which of so many images are looked at: int64, those to learn from, then those to test on."""
    return np.random.default_rng(seed).permutation(images)[: sum(split(images))]


def split(images: int) -> tuple[int, int]:
    """How many of so many images are learned from, and how many tested on."""
    if images >= POINTS + TEST_POINTS:
        return POINTS, TEST_POINTS
    return images * 2 // 3, images - images * 2 // 3
