"""Evaluation: contingency tables worked out by hand, and Qs whose information has a closed form."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from tolerances import CLUSTERING_64, FORMULA_32, FORMULA_64
from torch import nn

from fastinfogan.data import ImageData
from fastinfogan.kernels.codes import HALF_LOG_TWO_PI, Code
from fastinfogan.model.latent_spec import make_spec
from fastinfogan.results.clustering import cluster, contingency_table
from fastinfogan.results.evaluate import evaluate
from fastinfogan.results.evaluation_text import format_evaluation

LOG_2 = math.log(2.0)


def clustered(table, names=None):
    table = np.array(table)
    return cluster("c1", table, names or tuple(str(i) for i in range(table.shape[1])))


# -- Clustering ------------------------------------------------------------------------------


def test_contingency_counts_categories_against_labels():
    table = contingency_table(np.array([0, 2, 2, 2]), np.array([1, 0, 0, 1]), 4, 2)
    np.testing.assert_array_equal(table, [[0, 1], [0, 0], [2, 1], [0, 0]])


@pytest.mark.parametrize(
    "table, hungarian, majority, wrong_hungarian, wrong_majority",
    [
        # The diagonal holds 5 + 4 + 7 of 20 images, and each row's largest cell.
        ([[5, 1, 0], [0, 4, 2], [1, 0, 7]], (0, 1, 2), (0, 1, 2), 4, 4),
        # Labels permuted: not one error.
        ([[0, 9, 0], [0, 0, 4], [7, 0, 0]], (1, 2, 0), (1, 2, 0), 0, 0),
        # Two categories want label 0; giving it to the second costs more (4 + 0 < 6 + 1).
        ([[6, 0, 0], [4, 1, 0], [0, 0, 9]], (0, 1, 2), (0, 0, 2), 4, 1),
        # More categories than labels: the third is left over, the fourth is empty.
        ([[5, 0], [0, 3], [2, 0], [0, 0]], (0, 1, None, None), (0, 1, 0, None), 2, 0),
        # Fewer categories than labels: label 2 is left over.
        ([[4, 0, 1], [0, 5, 0]], (0, 1), (0, 1), 1, 1),
        # The only pair left shares no image: no match.
        ([[3, 2], [0, 0]], (0, None), (0, None), 2, 2),
    ],
)
def test_matching_by_hand(table, hungarian, majority, wrong_hungarian, wrong_majority):
    found = clustered(table)
    assert found.hungarian == hungarian
    assert found.majority == majority
    assert found.error_hungarian == pytest.approx(wrong_hungarian / np.sum(table))
    assert found.error_majority == pytest.approx(wrong_majority / np.sum(table))


def test_nmi_and_ari_by_hand():
    perfect = clustered([[0, 3], [5, 0]])
    assert (perfect.nmi, perfect.ari) == (pytest.approx(1.0), pytest.approx(1.0))
    independent = clustered([[5, 5], [5, 5]])
    # Pairs together in both: 4 * C(5, 2) = 40; in either: 2 * C(10, 2) = 90 of C(20, 2) = 190.
    expected = 90 * 90 / 190
    assert independent.nmi == pytest.approx(0.0, abs=FORMULA_64)
    assert independent.ari == pytest.approx((40 - expected) / (90 - expected))
    mutual = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
    assert clustered([[2, 1], [1, 2]]).nmi == pytest.approx(mutual / LOG_2)


@settings(max_examples=30, deadline=None)
@given(
    arrays(np.int64, array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.integers(0, 9))
)
def test_renaming_categories_changes_no_number(table):
    table[0, 0] += 1  # at least one image
    before, after = clustered(table), clustered(table[::-1])
    for name in ("error_hungarian", "error_majority", "nmi", "ari"):
        assert getattr(after, name) == pytest.approx(getattr(before, name), abs=CLUSTERING_64)
    assert after.majority == before.majority[::-1]
    assert 0.0 <= before.error_majority <= before.error_hungarian < 1.0


# -- Information -----------------------------------------------------------------------------


class Identity(nn.Module):
    """A generator that shows its input: an image of 1 x width pixels."""

    def forward(self, latents):
        return latents[:, None, None, :]


class Reader(nn.Module):
    """A Q that reads SPEC's codes off such an image, with a known sharpness.

    Logits of the categorical code: ``a`` times the pixels. Means: ``scale`` times the value.
    """

    def __init__(self, a: float, scale: float, s: float) -> None:
        super().__init__()
        self.a, self.scale, self.s = a, scale, s

    def forward(self, images):
        x = images.flatten(1)
        category, uni, learned, bern = x[:, 1:5], x[:, 5:6], x[:, 6:7], x[:, 7:8]
        s = torch.full_like(learned, self.s)
        parts = [
            category * self.a, uni * self.scale, learned * self.scale, s,
            (2 * bern - 1) * self.a,
        ]  # fmt: skip
        return x.sum(dim=1), torch.cat(parts, dim=1)


SPEC = make_spec(1, "cat4,uni,uni:learned,bern,cat3:free")
UNLABELLED = ImageData("none", np.zeros((1, 1, SPEC.input_width, 1), np.uint8), None, None)


def measured(a, scale, s, samples=600, data=UNLABELLED, **options):
    return evaluate(
        Identity().eval(), Reader(a, scale, s).eval(), SPEC, data,
        output_range=(0.0, 1.0), samples=samples, **options,
    )  # fmt: skip


def test_a_perfect_q_reaches_the_best_of_every_code():
    # e^-60 is lost in float32, and s = -60 is the smallest sigma, exp(-2).
    evaluation = measured(60.0, 1.0, -60.0)
    assert [code.name for code in evaluation.codes] == ["c1_cat4", "c2_uni", "c3_uni", "c4_bern"]
    by_hand = [math.log(4), LOG_2 - HALF_LOG_TWO_PI, LOG_2 - HALF_LOG_TWO_PI + 2.0, LOG_2]
    for code, best in zip(evaluation.codes, by_hand, strict=True):
        assert code.mi == pytest.approx(best, abs=FORMULA_32)
        assert code.best_mi == pytest.approx(best, abs=FORMULA_64)
    assert [code.correlation for code in evaluation.codes] == [
        None, pytest.approx(1.0), pytest.approx(1.0), None,
    ]  # fmt: skip
    assert evaluation.codes[1].mi_fitted > 10.0  # finite though the error is 0
    assert evaluation.totals["mi"] == pytest.approx(sum(by_hand), abs=4 * FORMULA_32)
    assert evaluation.totals["entropy"] == pytest.approx(math.log(4) + 3 * LOG_2)


def test_an_ignorant_q_has_no_information():
    evaluation = measured(0.0, 0.0, 0.0, seed=3)
    category, uni, learned, bern = evaluation.codes
    assert category.mi == pytest.approx(0.0, abs=FORMULA_32)
    assert bern.mi == pytest.approx(0.0, abs=FORMULA_32)
    # With mean 0 and sigma = 1: NLL = E[c^2] / 2 + 0.5 log 2 pi over the very same draws.
    squares = SPEC.sample(600, 3, 0).values.square().mean(dim=0)
    for code, square in ((uni, squares[1].item()), (learned, squares[2].item())):
        assert code.mi == pytest.approx(LOG_2 - HALF_LOG_TWO_PI - square / 2, abs=FORMULA_32)
        assert code.mi_fitted == pytest.approx(
            LOG_2 - 0.5 * math.log(2 * math.pi * math.e * square), abs=FORMULA_32
        )
        assert code.correlation == 0.0


def test_a_dull_q_has_the_information_of_its_softmax_and_its_error():
    evaluation = measured(2.0, 0.5, 0.0)
    category, uni, _, bern = evaluation.codes
    assert category.mi == pytest.approx(
        math.log(4) - math.log(1 + 3 * math.exp(-2)), abs=FORMULA_32
    )
    assert bern.mi == pytest.approx(LOG_2 - math.log(1 + math.exp(-2)), abs=FORMULA_32)
    error = SPEC.sample(600, 1, 0).values[:, 1].square().mean().item() / 4  # c - c / 2
    assert uni.mi_fitted == pytest.approx(
        LOG_2 - 0.5 * math.log(2 * math.pi * math.e * error), abs=FORMULA_32
    )
    assert uni.correlation == pytest.approx(1.0)


def test_the_best_of_gaussian_codes():
    assert Code("gaussian").best_mi == pytest.approx(0.5)  # log sigma and 2 pi cancel
    assert Code("gaussian", std="learned").best_mi == pytest.approx(2.5)


def test_batch_size_changes_nothing():
    whole, parts = (measured(1.0, 0.7, 0.3, batch_size=size).to_dict() for size in (600, 250))
    for one, other in zip(whole["codes"], parts["codes"], strict=True):
        assert one == pytest.approx(other, abs=FORMULA_32)


# -- All together ----------------------------------------------------------------------------


def labelled(labels, shown):
    """Real images in which ``shown`` is the category that Q sees, as pixel 255."""
    images = np.zeros((len(labels), 1, SPEC.input_width, 1), np.uint8)
    images[np.arange(len(labels)), 0, 1 + shown, 0] = 255
    names = ("north", "east", "south", "west")
    return ImageData("compass", images, labels.astype(np.int64), names)


def test_real_images_are_clustered_by_what_q_sees():
    labels = np.arange(40) % 4
    shown = np.array([2, 0, 3, 1])[labels]
    shown[:3] = 1  # of labels 0, 1, 2: three of 40 are wrong
    evaluation = measured(60.0, 1.0, 0.0, data=labelled(labels, shown), batch_size=7)
    best = evaluation.best
    assert best.code == "c1_cat4"
    assert best.category_to_label == ("east", "west", "north", "south")
    assert best.error_hungarian == pytest.approx(3 / 40)
    assert best.contingency[1] == (1, 1, 1, 10)
    assert evaluation.code_to_label == {"c1_cat4": best.category_to_label}

    tree = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert tree["code_to_label"] == {"c1_cat4": ["east", "west", "north", "south"]}
    assert tree["clusterings"][0]["hungarian"] == [1, 3, 0, 2]
    assert tree["totals"]["mi"] == pytest.approx(sum(code["mi"] for code in tree["codes"]))
    assert tree["codes"][0]["mi"] == evaluation.codes[0].mi
    text = format_evaluation(evaluation)
    assert "7.50%" in text and "categories of 40 real images against their labels" in text
    sample = replace(evaluation, images_of=12_345_678)
    assert "40 real images, a sample of 12,345,678 against their" in format_evaluation(sample)
    assert "0 -> east   1 -> west   2 -> north   3 -> south" in text
    assert max(map(len, text.splitlines())) <= 80


def test_pixels_reach_q_in_the_output_range():
    seen = []

    class Watcher(Reader):
        def forward(self, images):
            seen.append(images)
            return super().forward(images)

    data = labelled(np.arange(4), np.arange(4))
    evaluate(
        Identity().eval(), Watcher(1.0, 1.0, 0.0).eval(), SPEC, data,
        output_range=(-1.0, 1.0), samples=2,
    )  # fmt: skip
    assert seen[-1].shape == (4, 1, 1, SPEC.input_width)
    torch.testing.assert_close(seen[-1][:, 0, 0, 1:5], 2 * torch.eye(4) - 1)


def test_a_random_q_errs_on_most_images():
    random = np.random.default_rng(0)
    data = labelled(random.integers(4, size=2000), random.integers(4, size=2000))
    best = measured(60.0, 1.0, 0.0, data=data).best
    # Chance is 3/4; the best matching of 4 x 4 cells of 125 +- 11 gains a few percent.
    assert 0.68 < best.error_hungarian < 0.75
    assert best.nmi < 0.01
    assert abs(best.ari) < 0.01


def test_without_labels_nothing_is_clustered():
    evaluation = measured(1.0, 1.0, 0.0)
    assert evaluation.clusterings == ()
    assert evaluation.best is None
    assert evaluation.code_to_label == {}
    assert "label" not in format_evaluation(evaluation)


def test_the_best_of_several_codes_is_the_one_with_the_lowest_error():
    class SecondIsRight(nn.Module):
        def forward(self, images):
            x = images.flatten(1)
            return x[:, 0], torch.cat([torch.zeros_like(x), x], dim=1)

    spec = make_spec(0, "2xcat4")
    images = np.zeros((8, 1, 4, 1), np.uint8)
    images[np.arange(8), 0, np.arange(8) % 4, 0] = 255
    data = ImageData("x", images, np.arange(8, dtype=np.int64) % 4, None)

    class FirstFour(nn.Module):
        def forward(self, latents):
            return latents[:, None, None, :4]

    evaluation = evaluate(
        FirstFour().eval(), SecondIsRight().eval(), spec, data, output_range=(0.0, 1.0), samples=4
    )
    assert [c.error_hungarian for c in evaluation.clusterings] == [0.75, 0.0]
    assert evaluation.best.code == "c2_cat4"
    assert evaluation.code_to_label == {"c2_cat4": ("0", "1", "2", "3")}


def test_training_mode_is_refused():
    with pytest.raises(ValueError, match="eval mode"):
        evaluate(Identity(), Reader(1, 1, 0).eval(), SPEC, UNLABELLED, output_range=(0.0, 1.0))
