"""Factors in use: what Q reads, a run that is finished and evaluated, a study's numbers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from factor_cases import ROWS, grid
from narrow import narrow_presets
from PIL import Image
from torch import nn
from training_runs import few_digits, small

from fastinfogan.cli import main
from fastinfogan.data import DATASETS, ImageData, find_dataset
from fastinfogan.model.latent_spec import make_spec
from fastinfogan.results.evaluate import evaluate
from fastinfogan.results.evaluation_text import format_evaluation
from fastinfogan.results.factors.codes import read_codes
from fastinfogan.results.factors.measure import SCORES
from fastinfogan.results.factors.picture import plot_factors
from fastinfogan.results.run import load_run
from fastinfogan.results.summary import read_summary
from fastinfogan.study.collect import statistics_of
from fastinfogan.study.folder import Study
from fastinfogan.study.report import table
from fastinfogan.study.row import row_of
from fastinfogan.training.trainer import train

# -- What Q reads ---------------------------------------------------------------------------

SPEC = make_spec(1, "cat3,uni,uni:learned,bern,uni:free")


class Reader(nn.Module):
    """A Q that puts out the pixels: three logits, a mean, a mean and s, a logit."""

    def forward(self, images):
        x = images.flatten(1)
        return x[:, 0], x


class Generator(nn.Module):
    def forward(self, latents):
        return torch.zeros(len(latents), 1, 1, 7)


def pixels(factors: np.ndarray) -> ImageData:
    """A picture of seven pixels of each combination of shape, size and place."""
    images = np.zeros((len(factors), 1, 7, 1), np.uint8)
    images[np.arange(len(factors)), 0, factors[:, 0], 0] = 255
    images[:, 0, 3, 0] = 50 * factors[:, 1]
    images[:, 0, 4, 0] = 60 * factors[:, 2]
    images[:, 0, 5, 0] = 13  # s is no code
    images[:, 0, 6, 0] = 128 + 100 * (factors[:, 2] > 1)
    return ImageData("pixels", images, None, None, factors=factors, factor_rows=ROWS)


def test_codes_are_means_and_most_probable_categories():
    data, seen = pixels(np.array([[2, 3, 0], [0, 1, 4]])), []
    codes = read_codes(Reader().eval(), SPEC, data.images, [1, 0], (-1.0, 1.0), 1, seen.append)
    assert codes.names == ("c1_cat3", "c2_uni", "c3_uni", "c4_bern")
    assert codes.categories == (3, 0, 0, 2)
    scale = lambda byte: 2 * byte / 255 - 1  # noqa: E731
    np.testing.assert_allclose(
        codes.values, [[0, scale(50), scale(240), 1], [2, scale(150), scale(0), 1]], atol=1e-6
    )
    assert seen == [1, 1]


def test_evaluate_measures_disentanglement_where_factors_are_known():
    data = pixels(grid(8))
    networks = Generator().eval(), Reader().eval()
    found = evaluate(*networks, SPEC, data, output_range=(-1.0, 1.0), samples=20, seed=3)
    scores = found.disentanglement.scores
    assert found.disentanglement.factors == ("shape", "size", "place")
    assert found.disentanglement.codes == ("c1_cat3", "c2_uni", "c3_uni", "c4_bern")
    assert scores["factor_vae"] > 0.95 and scores["dci_informativeness"] == pytest.approx(1.0)
    tree = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert tree["disentanglement"]["scores"] == scores and list(scores) == list(SCORES)
    assert tree["disentanglement"]["protocol"].startswith("continuous codes in 20 bins")
    text = format_evaluation(found)
    assert "MIG" in text and "(the protocol asks for 10,000 images" in text
    assert max(map(len, text.splitlines())) <= 80
    again = evaluate(*networks, SPEC, data, output_range=(-1.0, 1.0), samples=20, seed=3)
    assert again.disentanglement == found.disentanglement

    without = replace(data, factors=None, factor_rows=None)
    found = evaluate(*networks, SPEC, without, output_range=(-1.0, 1.0), samples=20)
    assert found.disentanglement is None
    assert "MIG" not in format_evaluation(found)


# -- Runs and studies -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run on 256 digits with two known factors; don't write."""
    folder = tmp_path_factory.mktemp("runs") / "seed-0"
    with narrow_presets(), few_digits():
        few = DATASETS["few-digits"].load(None)
        factors = np.stack([few.labels % 2, few.labels // 5], axis=1)
        known = replace(few, name="known", factors=factors, factor_rows=ROWS[:2])
        entry = replace(find_dataset("digits"), name="known", load=lambda request: known)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(DATASETS, "known", entry)
            yield train(small(folder, dataset="known", sample_every=0))


def test_a_finished_run_leaves_the_scores_and_the_picture(finished, tmp_path, capsys):
    summary = json.loads((finished.folder / "summary.json").read_text())
    scores = summary["evaluation"]["disentanglement"]["scores"]
    assert set(scores) == set(SCORES) and None not in scores.values()
    with Image.open(finished.folder / "factors.png") as picture:
        assert picture.format == "PNG" and min(picture.size) >= 300
    output = tmp_path / "factors.png"
    assert main(["evaluate", str(finished.folder), "--output", str(output)]) == 0
    assert f"MIG{scores['mig']:>29.3f}" in capsys.readouterr().out
    assert output.read_bytes() == (finished.folder / "factors.png").read_bytes()
    assert main(["evaluate", str(finished.folder), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["disentanglement"]["scores"] == scores


def test_a_study_has_mean_and_deviation_of_the_scores(finished):
    summary = json.loads((finished.folder / "summary.json").read_text())
    study = Study(finished.folder.parent, finished.config, (0, 1))
    numbers = row_of(study, 0, summary, None)["numbers"]
    scores = summary["evaluation"]["disentanglement"]["scores"]
    assert {label: scores[name] for name, label in SCORES.items()}.items() <= numbers.items()
    (one,) = summary["evaluation"]["disentanglement"]["correlations"]
    assert one["factor"] == "size" and numbers["corr. size"] == abs(one["value"])
    statistics = statistics_of([numbers, {**numbers, "MIG": numbers["MIG"] + 0.1}])
    assert statistics["MIG"]["mean"] == pytest.approx(numbers["MIG"] + 0.05)
    assert statistics["MIG"]["std"] == pytest.approx(0.1 / 2**0.5)
    found = {
        "seeds": {"0": {"numbers": numbers}}, "statistics": statistics, "collapsed": [],
        "chosen": None, "rank_correlation": None,
    }  # fmt: skip
    assert "  DCI informativeness   " in table(study, found)


@pytest.mark.parametrize("value", ["x", [], {"mig": "high"}])
def test_scores_that_somebody_has_changed_are_passed_over(finished, tmp_path, value):
    summary = json.loads((finished.folder / "summary.json").read_text())
    summary["evaluation"]["disentanglement"]["scores"] = value
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    said = []
    assert read_summary(tmp_path, finished.config, 12, said.append) is None
    assert "evaluation.disentanglement is" in said[0]


def test_a_run_without_factors_has_no_picture_of_them(finished, tmp_path, monkeypatch, capsys):
    known = DATASETS["known"].load(None)
    plain = replace(known, factors=None, factor_rows=None)
    monkeypatch.setitem(DATASETS, "known", replace(DATASETS["known"], load=lambda request: plain))
    assert load_run(finished.folder).evaluate(samples=10).disentanglement is None
    output = tmp_path / "factors.png"
    assert main(["evaluate", str(finished.folder), "--output", str(output)]) == 2
    assert "known has no known factors to draw; leave it out" in capsys.readouterr().err
    same = replace(known, factors=np.zeros_like(known.factors))
    monkeypatch.setitem(DATASETS, "known", replace(DATASETS["known"], load=lambda request: same))
    assert main(["evaluate", str(finished.folder), "--output", str(output)]) == 2
    printed = capsys.readouterr()
    assert "nothing to draw, for no factor of known varies" in printed.err
    assert "all scores are 0: no factor varies" in printed.out and not output.exists()


def test_a_large_picture_has_no_numbers(tmp_path, finished):
    """Forty attributes: as many columns, and still a picture of a screen's width."""
    names = tuple(f"Attribute_{i}" for i in range(40))
    found = finished.evaluation.disentanglement
    wide = replace(
        found,
        factors=names,
        information=tuple((0.1,) * 40 for _ in found.codes),
        entropies=(0.5,) * 40,
    )
    assert plot_factors(wide, tmp_path / "factors.png")
    with Image.open(tmp_path / "factors.png") as picture:
        assert 2000 < picture.width < 3000
