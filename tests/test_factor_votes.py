"""The FactorVAE and beta-VAE scores: what a vote is, and what it doesn't depend on."""

from __future__ import annotations

import numpy as np
import pytest
from factor_cases import grid, mixed, numbers, spread

from fastinfogan.results.factors.fixed import Shared, beta_vae, factor_vae

FACTORS = grid(30, (3, 4))
A, B = FACTORS.T
SHARED = [Shared(column) for column in FACTORS.T]
NOISE = np.random.default_rng(1).normal(size=len(FACTORS))


def votes(score, codes):
    return score(codes, SHARED, np.random.default_rng(2))


def test_a_variance_is_a_share_of_its_codes_own():
    """Where a is fixed, c1 still varies ten times as much as c2; but c2 as much as ever."""
    codes = numbers(spread(A) + 0.5 * NOISE, 0.1 * spread(B))
    assert codes.values[A == 0, 0].var() > 10 * codes.values[:, 1].var()
    assert votes(factor_vae, codes) > 0.99


def test_codes_that_hardly_move_have_no_vote():
    """Two codes that know all: without the one of deviation 0.04 half of the votes are wrong."""
    small = 0.04 / spread(B).std() * spread(B)
    assert votes(factor_vae, numbers(spread(A), 2 * small)) == 1.0
    assert votes(factor_vae, numbers(spread(A), small)) == pytest.approx(0.5, abs=0.03)
    assert votes(factor_vae, numbers(small, small)) == 0.0


@pytest.mark.parametrize("score", [factor_vae, beta_vae])
def test_names_of_categories_and_ends_of_numbers_mean_nothing(score):
    """Both scores see how often two images differ, not by how much one name is another."""
    unsure = np.where(NOISE > -0.2, (A + 1 + (NOISE > 0.6)) % 3, A)
    codes = mixed((unsure, 3), (0.4 * spread(B) + np.roll(NOISE, 1), 0))
    renamed = mixed((np.array([1, 0, 2])[unsure], 3), (-codes.values[:, 1], 0))
    found = votes(score, codes)
    assert 0.6 < found < 0.999
    assert votes(score, renamed) == pytest.approx(found, abs=1e-3)
