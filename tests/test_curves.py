"""Curves: the lines, bounds and legends that a run's metrics turn into."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from fastinfogan.config import OptimConfig, TrainConfig, resolve, to_dict
from fastinfogan.model.latent_spec import make_spec
from fastinfogan.results.curves import plot_curves

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved."""
    saved, save = [], Figure.savefig

    def keep(self, *args, **kwargs):
        saved.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


def rows_of(spec, *, start=0.0):
    return [
        {
            "iteration": iteration,
            "d_loss": 1.4 - iteration / 100,
            "g_loss": 0.7,
            "mi_per_code": {spec.names[i]: start + i + iteration / 100 for i in spec.regularized},
        }
        for iteration in (20, 40, 60)
    ]


def panels(figure):
    """Title -> label -> (x, y) of its lines."""
    return {
        axes.get_title(): {line.get_label(): line.get_data() for line in axes.lines}
        for axes in figure.axes
    }


def test_curves_have_a_line_per_code_and_a_bound_per_kind(tmp_path, figures):
    spec = make_spec(2, "cat10,cat10:free,bern,uni,uni:learned")
    plot_curves(rows_of(spec), spec, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as file:
        assert file.format == "PNG"
    drawn = panels(figures[0])
    discrete, continuous = (
        drawn["$L_I$ of the discrete codes"],
        drawn["$L_I$ of the continuous codes"],
    )
    assert list(discrete) == ["c1_cat10", "c3_bern", "H(c) = 2.30", "H(c) = 0.69"]
    assert discrete["c3_bern"][0].tolist() == [20, 40, 60]
    assert discrete["c3_bern"][1].tolist() == pytest.approx([2.2, 2.4, 2.6])
    assert discrete["H(c) = 2.30"][1] == pytest.approx([math.log(10)] * 2)
    assert list(continuous)[:2] == ["c4_uni", "c5_uni"]
    fixed, learned = list(continuous.values())[2:]
    assert fixed[1] == pytest.approx([math.log(2) - 0.5 * math.log(2 * math.pi)] * 2)
    assert learned[1] == pytest.approx([math.log(2) - 0.5 * math.log(2 * math.pi) + 2.0] * 2)
    assert drawn["losses"]["D"][1].tolist() == pytest.approx([1.2, 1.0, 0.8])
    assert drawn["losses"]["G"][1].tolist() == [0.7] * 3


def test_the_baseline_is_drawn_with_one_entry_in_the_legend(tmp_path, figures):
    spec = make_spec(2, "2xcat10")
    plot_curves(rows_of(spec), spec, tmp_path / "x.png", baseline=rows_of(spec, start=-0.5))
    top, losses = figures[0].axes
    assert [text.get_text() for text in top.get_legend().get_texts()] == [
        "c1_cat10", "c2_cat10", "GAN baseline", "H(c) = 2.30",
    ]  # fmt: skip
    assert top.lines[2].get_ydata().tolist() == pytest.approx([-0.3, -0.1, 0.1])
    assert losses.get_title() == "losses"


def test_a_bad_start_does_not_flatten_the_curves(tmp_path, figures):
    spec = make_spec(2, "cat10")
    plot_curves(rows_of(spec, start=-50.0) + rows_of(spec), spec, tmp_path / "x.png")
    assert figures[0].axes[0].get_ylim()[0] == -1.0


def test_the_example_draws_a_run_beside_its_baseline(tmp_path):
    config = resolve(TrainConfig())
    for objective, start in (("infogan", 0.0), ("gan", -0.5)):
        folder = tmp_path / objective
        folder.mkdir()
        tree = to_dict(resolve(TrainConfig(optim=OptimConfig(objective=objective))))
        (folder / "config.json").write_text(json.dumps(tree))
        rows = rows_of(config.spec, start=start)
        (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    subprocess.run(
        [sys.executable, EXAMPLES / "compare_with_gan.py", "infogan", "gan", "both.png"],
        cwd=tmp_path, check=True,
    )  # fmt: skip
    plot_curves(rows_of(config.spec), config.spec, tmp_path / "alone.png")
    with Image.open(tmp_path / "both.png") as both, Image.open(tmp_path / "alone.png") as alone:
        assert both.format == "PNG"
        assert both.tobytes() != alone.tobytes()
