"""Scores of disentanglement of constructed codes, whose answers are known; bad input."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from factor_cases import ROWS, SIZES, few_trees, grid, mixed, numbers, spread

from fastinfogan.data.factors import Factor
from fastinfogan.results.factors import dci, information
from fastinfogan.results.factors.measure import SCORES, measure
from fastinfogan.results.factors.text import format_disentanglement

FACTORS = grid(20)  # 1,200 images: 800 to learn from, 400 to test on
SHAPE, SIZE, PLACE = FACTORS.T
PERFECT = mixed((SHAPE, 3), (spread(SIZE), 0), (spread(PLACE), 0))
RANDOM = np.random.default_rng(5)


def scores_of(codes, factors=FACTORS, rows=ROWS):
    with few_trees():
        found = measure(codes, factors, rows)
    json.dumps(asdict(found), allow_nan=False)
    assert max(map(len, format_disentanglement(found))) <= 80
    assert all(0.0 <= score <= 1.0 for score in found.scores.values() if score is not None)
    return found


@functools.cache
def perfect():
    return scores_of(PERFECT)


# -- Known answers --------------------------------------------------------------------------


def test_perfect_codes():
    found = perfect()
    for name in (
        "dci_disentanglement", "dci_completeness", "dci_informativeness", "factor_vae", "beta_vae",
    ):  # fmt: skip
        assert found.scores[name] == pytest.approx(1.0, abs=1e-6)
    # 800 random rows of the grid are nearly balanced; the whole grid is exactly.
    assert found.scores["mig"] > 0.97 and found.scores["modularity"] > 0.999
    table = information.mutual_information(PERFECT.bins(), FACTORS)
    entropy = information.entropies(FACTORS)
    np.testing.assert_allclose(entropy, np.log(SIZES))
    np.testing.assert_allclose(table, np.diag(entropy), atol=1e-12)
    assert information.mig(table, entropy) == pytest.approx(1.0)
    assert information.modularity(table) == pytest.approx(1.0)
    assert [(one.factor, one.code, round(one.value, 6)) for one in found.correlations] == [
        ("size", "c2", 1.0), ("place", "c3", 1.0),
    ]  # fmt: skip


def test_what_only_linear_rules_read_is_limited_by_them():
    """A category is told alone; of two values too, where the next best is right by chance."""
    factors = grid(150, (2, 2))
    rows = (Factor("a"), Factor("b", "ordered"))
    found = scores_of(mixed((factors[:, 0], 2), (spread(factors[:, 1]), 0)), factors, rows)
    assert found.scores["sap"] == pytest.approx(0.5, abs=0.08)
    assert found.scores["explicitness"] == pytest.approx(1.0)


def test_codes_turned_by_45_degrees():
    """Either code knows as much of either factor, so nothing tells them apart but a linear rule."""
    factors = grid(24, (5, 5))
    a, b = (spread(column) for column in factors.T)
    # Rounded, so that equal sums are equal and fall into one bin.
    turned = numbers(*np.round([(a + b) / math.sqrt(2), (a - b) / math.sqrt(2)], 9))
    rows = (Factor("a", "ordered"), Factor("b", "ordered"))
    found = scores_of(turned, factors, rows)
    for name in ("mig", "sap", "dci_disentanglement", "dci_completeness"):
        assert found.scores[name] < 0.1
    table = information.mutual_information(turned.bins(), factors)
    assert information.mig(table, information.entropies(factors)) == pytest.approx(0.0, abs=1e-9)
    assert information.modularity(table) == pytest.approx(0.0, abs=1e-9)
    assert found.scores["factor_vae"] == pytest.approx(0.5, abs=0.06)
    assert found.scores["beta_vae"] == pytest.approx(0.5, abs=0.06)


def test_noise():
    found = scores_of(numbers(*RANDOM.uniform(-1, 1, (3, len(FACTORS)))))
    for name in ("mig", "sap", "dci_disentanglement", "dci_completeness"):
        assert found.scores[name] < 0.06
    assert found.scores["factor_vae"] == pytest.approx(1 / 3, abs=0.06)
    assert found.scores["beta_vae"] == pytest.approx(1 / 3, abs=0.06)
    assert found.scores["explicitness"] == pytest.approx(0.5, abs=0.05)
    by_chance = np.mean(1 / np.array(SIZES))
    assert found.scores["dci_informativeness"] == pytest.approx(by_chance, abs=0.1)


def test_one_code_for_two_factors():
    """It serves two factors (D = 0), each of them is served by it alone (C = 1)."""
    factors = grid(75, (4, 4))
    both = spread(4 * factors[:, 0] + factors[:, 1])
    codes = numbers(both, RANDOM.uniform(-1, 1, len(factors)))
    rows = (Factor("a", "ordered"), Factor("b", "ordered"))
    found = scores_of(codes, factors, rows)
    assert found.scores["dci_disentanglement"] < 0.05
    assert found.scores["dci_completeness"] > 0.9
    assert found.scores["mig"] > 0.95  # which has no eye for it
    assert found.scores["modularity"] < 0.5  # of the code 0, of noise about 0.5
    table = information.mutual_information(codes.bins(), factors)[:1]
    assert information.modularity(table) == pytest.approx(0.0, abs=1e-9)


def test_two_codes_for_one_factor():
    """Each serves one factor (D = 1); ``shape`` has no best code, so its gap is 0."""
    codes = mixed((SHAPE, 3), (2 - SHAPE, 3), (spread(SIZE), 0), (spread(PLACE), 0))
    found = scores_of(codes)
    assert found.scores["dci_disentanglement"] > 0.99 and found.scores["modularity"] > 0.99
    table = information.mutual_information(codes.bins(), FACTORS)
    gaps = information.mig(table, information.entropies(FACTORS))
    assert gaps == pytest.approx(2 / 3)
    assert found.scores["factor_vae"] == pytest.approx(1.0, abs=1e-6)
    # Of shape's importance each of two codes has about half; the others have one code.
    assert found.scores["dci_completeness"] == pytest.approx(
        1 - math.log(2) / math.log(4) / 3, abs=0.05
    )


def test_importances_find_the_code_of_each_factor():
    half = slice(800), slice(800, None)
    parts = [x for part in half for x in (PERFECT.part(part), FACTORS[part])]
    importance, right = dci.importances(*parts, lambda: None)
    np.testing.assert_allclose(importance, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(right, 1.0)


def test_a_cyclic_factor_is_told_as_an_angle():
    azimuth = grid(60, (12,))[:, 0]
    turned = ((azimuth + 4) % 12 - 6) / 6  # the code's ends meet somewhere else
    codes = numbers(turned + RANDOM.normal(0, 0.01, len(azimuth)), np.cos(azimuth))
    found = scores_of(codes, azimuth[:, None], (Factor("azimuth", "cyclic", 12),))
    (one,) = found.correlations
    assert (one.factor, one.code, one.form) == ("azimuth", "c1", "angle")
    # Ranks spread each of 12 values evenly over a twelfth of the turn.
    assert one.value == pytest.approx(np.sinc(1 / 12) ** 2, abs=0.005)
    swing = numbers(np.sin(2 * np.pi * azimuth / 12), RANDOM.normal(size=len(azimuth)))
    (one,) = scores_of(swing, azimuth[:, None], (Factor("azimuth", "cyclic", 12),)).correlations
    assert (one.code, one.form) == ("c1", "line") and one.value == pytest.approx(1.0)


# -- Bad input ------------------------------------------------------------------------------


def test_a_constant_factor_is_left_out():
    factors = np.hstack([FACTORS, np.full((len(FACTORS), 1), 7)])
    found = scores_of(PERFECT, factors, (*ROWS, Factor("color")))
    assert found.factors == ("shape", "size", "place")
    assert "constant, left out: color" in found.notes
    assert found.scores == perfect().scores


def test_a_constant_code_knows_nothing():
    codes = mixed((SHAPE, 3), (spread(SIZE), 0), (np.full(len(FACTORS), 0.1), 0))
    found = scores_of(codes, FACTORS[:, :2], ROWS[:2])
    assert "the same for all images: c3" in found.notes
    assert found.information[2] == (0.0, 0.0)
    assert found.scores["dci_disentanglement"] == pytest.approx(1.0)
    assert found.scores["mig"] > 0.97 and found.scores["modularity"] > 0.6  # of two codes of three


@pytest.mark.parametrize("what", ["code", "factor"])
def test_where_nothing_varies_all_scores_are_0(what):
    same = np.zeros_like(FACTORS)
    codes = numbers(*same.T) if what == "code" else PERFECT
    found = scores_of(codes, same if what == "factor" else FACTORS)
    assert found.scores == dict.fromkeys(SCORES, 0.0)
    assert f"all scores are 0: no {what} varies" in found.notes


def test_codes_that_hardly_vary_have_no_votes_and_it_is_said():
    found = scores_of(numbers(0.01 * spread(SIZE)), FACTORS[:, :2], ROWS[:2])
    assert found.scores["factor_vae"] == 0.0
    assert "no code's deviation reaches 0.05: the FactorVAE score is 0" in found.notes
    assert not any("FactorVAE score is 0" in note for note in perfect().notes)


def test_fewer_images_than_the_protocol_asks_for():
    found = scores_of(PERFECT.part(slice(150)), FACTORS[:150])
    assert (found.points, found.test_points) == (100, 50)
    assert "there are 100 and 50" in found.notes[0]
    assert found.scores["dci_informativeness"] > 0.9
    few = scores_of(PERFECT.part(slice(9)), FACTORS[:9])
    assert set(few.scores.values()) == {None}
    assert "no scores: 9 images are too few; 100 work" in few.notes
    assert scores_of(PERFECT.part(slice(1)), FACTORS[:1]).factors == ()


def test_one_code_and_one_factor_lack_the_scores_that_take_two():
    def missing(found):
        return {name for name, score in found.scores.items() if score is None}

    one_code = scores_of(mixed((SHAPE, 3)))
    assert missing(one_code) == {"mig", "dci_completeness", "sap"}
    assert "there is one code, and it takes two for MIG, DCI completeness, SAP" in one_code.notes
    one_factor = scores_of(PERFECT, FACTORS[:, :1], ROWS[:1])
    assert missing(one_factor) == {"dci_disentanglement", "factor_vae", "beta_vae", "modularity"}
    assert one_factor.notes[1].startswith("one factor varies, and it takes two for DCI dis")


def test_values_that_no_two_images_share():
    factors = np.hstack([FACTORS, np.arange(len(FACTORS))[:, None]])
    found = scores_of(PERFECT, factors, (*ROWS, Factor("identity")))
    notes = " | ".join(found.notes)
    assert "left out of FactorVAE and beta-VAE score: identity" in notes
    assert "more than 64 values, left out of DCI, SAP and explicitness: identity" in notes
    assert found.scores["factor_vae"] == pytest.approx(1.0)
    own = np.stack([np.arange(300), np.arange(300)[::-1]], axis=1)
    only = scores_of(PERFECT.part(slice(300)), own, (Factor("a"), Factor("b")))
    assert {name for name, score in only.scores.items() if score is not None} == {
        "mig", "modularity",
    }  # fmt: skip
