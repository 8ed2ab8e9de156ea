"""Known factors on the way: what costs little is measured while a run trains, and drawn."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from factor_cases import ROWS, few_trees, grid, mixed, numbers, spread
from narrow import narrow_presets
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_runs import assert_same_weights, few_digits, finish_briefly, small

from fastinfogan.data import DATASETS, find_dataset
from fastinfogan.data.factors import Factor
from fastinfogan.errors import UserError
from fastinfogan.results.factors.brief import BRIEF, measure_briefly
from fastinfogan.results.factors.measure import SCORES, measure
from fastinfogan.results.factors.protocol import drawn, split
from fastinfogan.results.report.charts import charts
from fastinfogan.study.collect import collect
from fastinfogan.study.curves import plot_errors, plot_scores
from fastinfogan.study.folder import open_study, read_study
from fastinfogan.training.metrics import read_metrics
from fastinfogan.training.trainer import train

RANDOM = np.random.default_rng(0)
TURNS = (Factor("shape"), Factor("size", "ordered"), Factor("turn", "cyclic", 5))


def cases():
    """Codes, factors and what they are; the last ones are those of which little can be said."""
    factors = grid(4)
    n = len(factors)
    noisy = [spread(column) + 0.3 * RANDOM.normal(size=n) for column in factors.T]
    yield "three codes", numbers(*noisy), factors, TURNS
    category = (factors[:, 0], 3)
    yield "a category", mixed(category, (noisy[1], 0), (noisy[2], 0)), factors, ROWS
    yield "one code", numbers(noisy[1]), factors, TURNS
    yield "one factor", numbers(*noisy), factors[:, 1:2], TURNS[1:2]
    still = np.stack([factors[:, 0], np.full(n, 2)], axis=1)
    yield "a constant factor", numbers(*noisy), still, TURNS[:2]
    yield "constant factors", numbers(*noisy), np.zeros_like(factors), TURNS
    yield "constant codes", numbers(np.ones(n), np.zeros(n)), factors, TURNS
    yield "few images", numbers(*(column[:99] for column in noisy)), factors[:99], TURNS
    only = np.stack([np.arange(n), factors[:, 1]], axis=1)
    yield "values that one image has", numbers(*noisy), only, TURNS[:2]


@pytest.mark.parametrize(
    ("codes", "factors", "rows"), [pytest.param(*c, id=i) for i, *c in cases()]
)
def test_what_is_measured_on_the_way_is_what_is_measured_at_the_end(codes, factors, rows):
    """MIG and correlations of the images that are learned from; the votes have fewer images."""
    with few_trees():
        whole = measure(codes, factors, rows)
    part = slice(whole.points) if len(codes) >= 100 else slice(None)
    found = measure_briefly(codes.part(part), factors[part], rows, 0)
    assert tuple(found["scores"]) == BRIEF and set(BRIEF) <= set(SCORES)
    assert found["scores"]["mig"] == whole.scores["mig"]
    assert found["scores"]["factor_vae"] == pytest.approx(whole.scores["factor_vae"], abs=0.06)
    assert found["correlations"] == [vars(one) for one in whole.correlations]
    assert found["points"] == len(codes.part(part))
    assert json.loads(json.dumps(found, allow_nan=False)) == found


# -- A run, and a study of it ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def known():
    """Inside, ``known`` is a dataset of 256 digits without labels, and with two factors."""
    with narrow_presets(), few_digits():
        few = DATASETS["few-digits"].load(None)
        factors = np.stack([few.labels % 2, few.labels // 5, few.labels], axis=1)
        data = replace(few, name="known", labels=None, label_names=None, factors=factors,
                       factor_rows=TURNS)  # fmt: skip
        entry = replace(find_dataset("digits"), name="known", load=lambda request: data)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(DATASETS, "known", entry)
            yield data


@pytest.fixture(scope="module")
def finished(known, tmp_path_factory):
    """A study of one seed; don't write."""
    folder = tmp_path_factory.mktemp("studies") / "a"
    config = small(folder, dataset="known", evaluate_every=6)
    study = open_study(folder, config, (0,))
    with few_trees():
        train(study.run_config(0))
    return study


def rows_of(study):
    return read_metrics(study.run_folder(0) / "metrics.jsonl", study.config.spec)


def test_the_curve_ends_where_evaluation_json_stands(finished, known):
    rows = [row for row in rows_of(finished) if "disentanglement" in row]
    assert [row["iteration"] for row in rows] == [6, 12]
    assert not any("evaluation" in row for row in rows_of(finished))
    last, summary = rows[-1]["disentanglement"], finished.summary(0)["evaluation"]
    ended = summary["disentanglement"]
    assert last["scores"]["mig"] == ended["scores"]["mig"]
    assert last["correlations"] == ended["correlations"]
    assert [one["factor"] for one in last["correlations"]] == ["size", "turn"]
    assert last["points"] == ended["points"] == split(len(known))[0]


def test_the_images_are_the_same_each_time_and_no_more_than_ten_thousand():
    rows = drawn(40_000, 1)[: split(40_000)[0]]
    assert len(rows) == len({*rows}) == 10_000
    np.testing.assert_array_equal(rows, drawn(40_000, 1)[:10_000])


@pytest.mark.parametrize("labelled", [False, True])
def test_training_does_not_notice(tmp_path, known, monkeypatch, labelled):
    finish_briefly(monkeypatch)
    data = known
    if labelled:
        labels = known.factors[:, 2].copy()
        data = replace(known, labels=labels, label_names=tuple("0123456789"))
        entry = replace(DATASETS["known"], load=lambda request: data)
        monkeypatch.setitem(DATASETS, "known", entry)
    for every in (0, 2):
        train(small(tmp_path / str(every), dataset="known", evaluate_every=every))
    assert_same_weights(tmp_path / "0", tmp_path / "2")
    plain, curve = (read_metrics(tmp_path / name / "metrics.jsonl") for name in "02")
    assert not any("disentanglement" in row or "evaluation" in row for row in plain)
    assert all("disentanglement" in row and ("evaluation" in row) == labelled for row in curve)


def test_tensorboard_and_the_report_show_it(finished):
    rows, folder = rows_of(finished), finished.run_folder(0)
    measured = [row["disentanglement"] for row in rows if "disentanglement" in row]
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    for name, values in (
        ("mig", [one["scores"]["mig"] for one in measured]),
        ("factor_vae", [one["scores"]["factor_vae"] for one in measured]),
        ("correlation/size", [one["correlations"][0]["value"] for one in measured]),
    ):
        shown = events.Scalars(f"disentanglement/{name}")
        assert [(p.step, p.value) for p in shown] == [
            (6, pytest.approx(values[0])), (12, pytest.approx(values[1]))
        ]  # fmt: skip
    found = {chart["title"]: chart for chart in charts(rows, finished.config.spec)}
    chart = found["Best |correlation| of a code with a factor"]
    assert chart["x"] == [6, 12] and chart["range"] == [0.0, 1.0]
    assert {one["name"]: one["y"] for one in chart["series"]} == {
        factor: pytest.approx([abs(one["correlations"][i]["value"]) for one in measured], rel=1e-4)
        for i, factor in enumerate(("size", "turn"))
    }
    series = found["Scores of disentanglement"]["series"]
    assert [one["name"] for one in series] == ["MIG", "FactorVAE score"]
    assert "Best |correlation| of a code" in (folder / "report.html").read_text()


def test_a_study_keeps_the_curves_and_draws_them(finished, tmp_path):
    found = collect(read_study(finished.folder))
    row = found["seeds"]["0"]
    assert list(row["curves"]) == ["MIG", "FactorVAE score", "corr. size", "corr. turn"]
    assert row["curve"] == []
    for name in ("MIG", "corr. size", "corr. turn"):
        (_, _), (iteration, value) = row["curves"][name]
        assert iteration == 12 and value == row["numbers"][name]
    assert json.loads((finished.folder / "study.json").read_text())["found"] == json.loads(
        json.dumps(found)
    )
    assert plot_scores({"a": found}, tmp_path / "scores.png")
    assert Image.open(tmp_path / "scores.png").size == (680, 540)  # of two panels by two
    assert not plot_errors({"a": found}, tmp_path / "errors.png")
    row["curves"] = {}
    assert not plot_scores({"a": found}, tmp_path / "none.png")
    del row["curves"]  # as an earlier version left it
    assert not plot_scores({"a": found}, tmp_path / "none.png")
    assert [path.name for path in tmp_path.iterdir()] == ["scores.png"]


def test_a_damaged_row_is_passed_over(finished, tmp_path):
    rows = (finished.run_folder(0) / "metrics.jsonl").read_text().splitlines()
    at = next(i for i, line in enumerate(rows) if "disentanglement" in line)
    row = json.loads(rows[at])
    row["disentanglement"]["correlations"][0]["value"] = "high"
    rows[at] = json.dumps(row)
    (tmp_path / "metrics.jsonl").write_text("\n".join((*rows, "")))
    told = []
    assert len(read_metrics(tmp_path / "metrics.jsonl", tell=told.append)) == len(rows) - 1
    assert f"{at + 1} (disentanglement.correlations[0].value is" in told[0]


def test_without_labels_and_factors_there_is_nothing_to_evaluate_against(
    known, tmp_path, monkeypatch
):
    plain = replace(known, factors=None, factor_rows=None)
    monkeypatch.setitem(DATASETS, "known", replace(DATASETS["known"], load=lambda request: plain))
    says = "--evaluate-every 5: known has neither labels nor known factors to evaluate against"
    with pytest.raises(UserError, match=says):
        train(small(tmp_path / "run", dataset="known", evaluate_every=5))
    assert not (tmp_path / "run").exists()
