"""The formulas of disentanglement's metrics, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from factor_cases import mixed
from tolerances import FORMULA_64

from fastinfogan.results.factors import correlation, dci, information, protocol, sap
from fastinfogan.results.factors.fixed import Shared

LOG_2, LOG_3 = math.log(2), math.log(3)


def test_information_of_a_joint_histogram():
    """Cells 2, 1 / 1, 2 of six, worked out as in test_evaluate; then a copy, then nothing."""
    factor = np.array([0, 0, 0, 1, 1, 1])
    half = np.array([0, 0, 1, 0, 1, 1])
    bins = np.stack([half, factor, np.array([0, 1, 2, 0, 1, 2])], axis=1)
    mutual = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
    found = information.mutual_information(bins, factor[:, None])
    assert found.tolist() == [
        [pytest.approx(mutual)], [pytest.approx(LOG_2)], [pytest.approx(0.0, abs=FORMULA_64)],
    ]  # fmt: skip
    three = np.array([0, 0, 1, 2])
    assert information.entropies(three[:, None]) == pytest.approx([1.5 * LOG_2])


def test_mig_is_the_gap_between_the_two_best_codes():
    """Factor 1: (0.5 - 0.2) / 1; factor 2: (0.6 - 0.6) / 0.8; factor 3: (0.9 - 0.1) / 1.6."""
    table = np.array([[0.5, 0.6, 0.1], [0.2, 0.6, 0.9], [0.1, 0.0, 0.0]])
    assert information.mig(table, np.array([1.0, 0.8, 1.6])) == pytest.approx((0.3 + 0.5) / 3)


def test_modularity_is_how_far_a_code_is_off_its_template():
    """Code 1 knows one factor: 1. Code 2: 1 - (0.1^2 + 0.2^2) / (0.4^2 * 2). Code 3 nothing: 0."""
    table = np.array([[0.5, 0.0, 0.0], [0.1, 0.4, 0.2], [0.0, 0.0, 0.0]])
    by_hand = (1.0 + (1.0 - 0.05 / 0.32) + 0.0) / 3
    assert information.modularity(table) == pytest.approx(by_hand)


def test_disentanglement_and_completeness_of_importances():
    """Code 1 serves two of two factors evenly (D = 0), code 2 the second only (D = 1).

    Their weights are 1 and 0.5 of 1.5. Factor 1 is all code 1's (C = 1, weight 0.5), factor 2
    half and half (C = 0, weight 1).
    """
    table = np.array([[0.5, 0.5], [0.0, 0.5]])
    assert dci.disentanglement(table) == pytest.approx(0.5 / 1.5)
    assert dci.completeness(table) == pytest.approx(0.5 / 1.5)


def test_importances_of_three_factors_by_hand():
    """P = (1/2, 1/4, 1/4): H = 1.5 log 2, to the base of 3; a code that serves none counts not."""
    table = np.array([[0.8, 0.4, 0.4], [0.0, 0.0, 0.0]])
    assert dci.disentanglement(table) == pytest.approx(1.0 - 1.5 * LOG_2 / LOG_3)
    assert dci.completeness(table) == pytest.approx(1.0)
    assert dci.disentanglement(np.zeros((2, 3))) == dci.completeness(np.zeros((2, 3))) == 0.0


def test_sap_is_the_gap_between_the_two_best_classifiers():
    table = np.array([[0.9, 0.3], [0.5, 0.8], [0.6, 0.2]])
    assert sap.sap(table) == pytest.approx(((0.9 - 0.6) + (0.8 - 0.3)) / 2)


def test_numbers_are_binned_between_their_ends_and_categories_left():
    codes = mixed((np.array([-1.0, -0.91, -0.89, 0.0, 0.99, 1.0]), 0), (np.arange(6), 6))
    bins = codes.bins()
    # 20 bins of 0.1 from -1 to 1, numbered from 1; the last holds its upper end as well.
    assert bins[:, 0].tolist() == [1, 1, 2, 11, 20, 20]
    assert bins[:, 1].tolist() == [0, 1, 2, 3, 4, 5]


def test_linear_classifiers_read_categories_one_hot():
    number, category = mixed((np.array([0.5, -2.0]), 0), (np.array([2, 0]), 3)).columns()
    assert number.tolist() == [[0.5], [-2.0]]
    assert category.tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]


def test_fewer_images_are_shared_out_two_to_one():
    assert protocol.split(18_432) == protocol.split(15_000) == (10_000, 5_000)
    assert protocol.split(300) == (200, 100)


# -- Images that share a value --------------------------------------------------------------


def test_partners_have_the_same_value_and_every_one_is_drawn():
    values = np.array([7, 3, 7, 9, 3, 7])
    shared, random = Shared(values), np.random.default_rng(0)
    images = shared.draw((400,), random)
    assert {*images} == {0, 1, 2, 4, 5}  # 9 is had by one image only
    partners = shared.like(images, random)
    assert (values[partners] == values[images]).all()
    assert {*partners[images == 0]} == {0, 2, 5}
    assert shared and not Shared(np.arange(5))


# -- Correlations ---------------------------------------------------------------------------

ANGLES = 2 * np.pi * np.arange(40) / 40


def test_a_code_that_goes_round_with_the_angle():
    """As an angle 1. As a line, of t from 0 to 2 pi: cov(t, sin t) = -1, var t = pi^2 / 3, var
    sin t = 1/2, and t is orthogonal to cos t, so R = sqrt(6) / pi."""
    code = np.arange(40.0)
    assert correlation.as_angle(code, ANGLES) == pytest.approx(1.0)
    assert correlation.as_angle(-(code**3), ANGLES) == pytest.approx(-1.0)  # its rank decides
    fine = 2 * np.pi * np.arange(4000) / 4000
    assert correlation.as_line(fine, fine) == pytest.approx(math.sqrt(6) / math.pi, abs=1e-3)


def test_a_code_that_swings_there_and_back():
    code = np.cos(ANGLES - 0.7)
    assert correlation.as_line(3.0 * code + 1.0, ANGLES) == pytest.approx(1.0)
    assert abs(correlation.as_angle(code, ANGLES)) < 0.2


def test_circular_correlation_is_the_sum_over_pairs():
    random = np.random.default_rng(1)
    code, angle = random.normal(size=9), random.uniform(0, 7, 9)
    turn = 2 * np.pi * (np.argsort(np.argsort(code)) + 1) / 9
    i, j = np.triu_indices(9, 1)
    a, b = np.sin(turn[i] - turn[j]), np.sin(angle[i] - angle[j])
    by_hand = (a * b).sum() / math.sqrt((a**2).sum() * (b**2).sum())
    assert correlation.as_angle(code, angle) == pytest.approx(by_hand)


def test_the_linear_formula_is_a_regression_on_cosine_and_sine():
    random = np.random.default_rng(2)
    code, angle = random.normal(size=30), random.uniform(0, 5, 30)
    design = np.stack([np.ones(30), np.cos(angle), np.sin(angle)], axis=1)
    rest = code - design @ np.linalg.lstsq(design, code, rcond=None)[0]
    squared = 1.0 - (rest**2).sum() / ((code - code.mean()) ** 2).sum()
    assert correlation.as_line(code, angle) == pytest.approx(math.sqrt(squared))


def test_what_is_constant_correlates_with_nothing():
    same, two = np.full(40, 0.3), np.pi * (np.arange(40) % 2)
    for formula in (correlation.linear, correlation.as_line, correlation.as_angle):
        assert formula(same, ANGLES) == 0.0
        assert formula(np.arange(40.0), np.zeros(40)) == 0.0
    assert correlation.as_line(np.cos(two), two) == pytest.approx(1.0)
    assert correlation.as_angle(np.cos(two), two) == 0.0  # there and back is not round
