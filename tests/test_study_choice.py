"""Choosing one of a study's runs without labels: what its scores are worth, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastinfogan.data import ImageData
from fastinfogan.kernels.jitter import Jitter
from fastinfogan.model.latent_spec import make_spec
from fastinfogan.study import choice


class Answers(torch.nn.Module):
    """A Q with given logits for an image whose pixels all have one value."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, images):
        value = (images.mean((1, 2, 3)) * 255).round().long()
        return value.float(), self.logits[value]


def uniform_images(values):
    images = np.array(values, np.uint8)[:, None, None, None].repeat(8, 1).repeat(8, 2)
    return ImageData("flat", images, None, None)


def test_scores_of_a_sure_a_torn_and_a_lazy_q():
    """Information: log K if sure of all K, 0 if torn, and 0 if everything is one category."""
    data, spec = uniform_images([0, 1, 2, 3] * 5), make_spec(2, "cat4")
    jitter = Jitter()  # nothing changes
    scores = {}
    for name, logits in {
        "sure": 50.0 * torch.eye(4), "torn": torch.zeros(4, 4),
        "lazy": 50.0 * torch.eye(4)[[0, 0, 0, 0]],
    }.items():  # fmt: skip
        q = Answers(logits).eval()
        scores[name], categories = choice.look(q, spec, data, jitter, (0.0, 1.0))
        assert categories.shape == (1, 20)
    assert scores["sure"]["information"] == pytest.approx(np.log(4))
    assert scores["torn"]["information"] == pytest.approx(0.0, abs=1e-12)
    assert scores["lazy"]["information"] == pytest.approx(0.0, abs=1e-12)
    assert scores["torn"]["confidence"] == pytest.approx(0.25)
    assert all(score["steadiness"] == 1.0 for score in scores.values())
    assert all(score["consistency"] == pytest.approx(0.0) for score in scores.values())


def test_agreement_finds_the_one_that_strays():
    """Names of categories don't matter; who sorts otherwise agrees least."""
    truth = np.arange(400) % 4
    renamed = (truth + 1) % 4
    stray = np.random.default_rng(0).integers(0, 4, 400)
    found = choice.agreement({3: truth[None], 5: renamed[None], 8: stray[None]})
    assert found[3] == pytest.approx(found[5])
    assert found[8] < 0.1 < 0.4 < found[3]
    assert choice.choose({s: {"agreement": a} for s, a in found.items()}) == 3
    assert choice.agreement({3: truth[None]}) == {}
    assert choice.choose({}) is None


def test_rank_correlation_is_minus_one_for_a_perfect_score():
    scores = {s: {"agreement": 1.0 - e, "confidence": 0.5} for s, e in enumerate((0.1, 0.3, 0.2))}
    found = choice.rank_correlations(scores, {0: 0.1, 1: 0.3, 2: 0.2})
    assert found == {"agreement": pytest.approx(-1.0)}
    assert choice.rank_correlations(scores, dict.fromkeys(scores, 0.1)) == {}
