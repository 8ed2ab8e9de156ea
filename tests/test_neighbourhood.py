"""Choosing one of a study's runs by its categories: what the score is worth, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastinfogan.data import ImageData
from fastinfogan.model.latent_spec import make_spec
from fastinfogan.study import choice, neighbourhood


def test_neighbours_are_the_nearest_others_in_pixels():
    """On a line of grey values each has the two beside it; means over cells blur the rest."""
    values = np.array([0, 10, 21, 33, 46], np.uint8)
    images = values[:, None, None, None].repeat(32, 1).repeat(32, 2)
    assert [set(row) for row in neighbourhood.nearest(images, 2)] == [
        {1, 2}, {0, 2}, {1, 3}, {2, 4}, {3, 2},
    ]  # fmt: skip
    stripes = np.zeros((3, 32, 32, 1), np.uint8)
    stripes[0, ::2], stripes[1, 1::2], stripes[2] = 200, 200, 120  # a pixel apart: the same cells
    assert neighbourhood.nearest(stripes, 1).tolist() == [[1], [0], [0]]
    assert neighbourhood.nearest(images[:2], 10).tolist() == [[1], [0]]


@pytest.mark.parametrize("shape", [(700, 28, 28, 1), (40, 37, 20, 3), (20, 8, 8, 1)])
def test_neighbours_against_every_distance(shape):
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    size = -(-max(shape[1:3]) // neighbourhood.CELLS)
    cells = np.stack([
        images[:, y : y + size, x : x + size].astype(float).mean((1, 2))
        for y in range(0, shape[1], size) for x in range(0, shape[2], size)
    ], 1)  # fmt: skip
    distances = ((cells[:, None] - cells[None]) ** 2).sum((2, 3))
    np.fill_diagonal(distances, np.inf)
    found = neighbourhood.nearest(images, 5)
    assert found.shape == (shape[0], 5)
    theirs = np.take_along_axis(distances, found, 1)
    np.testing.assert_allclose(theirs, np.sort(distances, 1)[:, :5])


def test_kappa_of_a_perfect_a_lazy_and_a_random_sorting():
    """Against scikit-learn's, which is given the pairs."""
    from sklearn.metrics import cohen_kappa_score

    truth = np.arange(400) % 4
    neighbours = (np.arange(400)[:, None] + 4 * np.arange(1, 4)) % 400  # of the same class
    assert neighbourhood.kappa(truth, neighbours) == pytest.approx(1.0)
    assert neighbourhood.kappa((truth + 1) % 4, neighbours) == pytest.approx(
        1.0
    )  # whatever the names
    assert neighbourhood.kappa(np.zeros(400, np.int64), neighbours) == 0.0
    merged = np.where(truth == 3, 0, truth)  # nothing disagrees, but that is no surprise either
    assert neighbourhood.kappa(merged, neighbours) == pytest.approx(1.0)
    stray = np.random.default_rng(0).integers(0, 4, 400)
    expected = cohen_kappa_score(stray.repeat(3), stray[neighbours].ravel())
    assert neighbourhood.kappa(stray, neighbours) == pytest.approx(expected)
    assert abs(expected) < 0.1
    assert neighbourhood.kappa(truth[:1], np.zeros((1, 0), np.int64)) == 0.0  # an image alone


class Answers(torch.nn.Module):
    """A Q with given logits for an image whose pixels all have one value."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, images):
        value = (images.mean((1, 2, 3)) * 255).round().long()
        return value.float(), self.logits[value]


def test_a_run_is_scored_by_what_q_says_of_neighbours():
    """Who splits what lies close together scores lower; several codes count alike."""
    values = np.array([0, 1, 2, 3] * 5, np.uint8)
    images = values[:, None, None, None].repeat(8, 1).repeat(8, 2)
    data, spec = ImageData("flat", images, None, None), make_spec(2, "cat4,cat2")
    neighbours = neighbourhood.nearest(images, 4)  # those of the same value
    four, halves = 50.0 * torch.eye(4), 50.0 * torch.eye(2)[[0, 0, 1, 1]]
    good = Answers(torch.cat([four, halves], 1)).eval()
    lazy = Answers(torch.cat([four, halves[[0, 0, 0, 0]]], 1)).eval()
    score = [
        neighbourhood.neighbourhood(q, spec, data, neighbours, (0.0, 1.0)) for q in (good, lazy)
    ]
    assert score == [pytest.approx(1.0), pytest.approx(0.5)]
    assert choice.choose({3: 0.2, 5: 0.9, 8: 0.9}) == 5
    assert choice.choose({}) is None


def test_rank_correlation_is_minus_one_for_a_perfect_score():
    errors = {0: 0.1, 1: 0.3, 2: 0.2, 3: 0.4, 4: 0.5}
    best = {0: 0.9, 1: 0.7, 2: 0.8, 3: 0.6, 4: 0.5}
    worst = {seed: -score for seed, score in best.items()}
    assert choice.rank_correlation(best, errors) == pytest.approx(-1.0)
    assert choice.rank_correlation({**worst, 5: 0.1}, errors) == pytest.approx(1.0)
    assert choice.rank_correlation(dict.fromkeys(best, 0.9), errors) is None  # tells none apart
    assert choice.rank_correlation({seed: best[seed] for seed in range(4)}, errors) is None
    assert choice.rank_correlation(best, dict.fromkeys(errors, 0.1)) is None
