"""The script of the paper's experiments: commands that can be given again, and what it writes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import paper
from fastinfogan.cli import main
from fastinfogan.config.presets import PRESETS

OPTIONS = ["--device", "cpu", "--log-every", "1"]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few iterations of small networks in place of the paper's."""
    rows = [replace(e, iterations=(2, 3)) for e in paper.EXPERIMENTS]
    rows[0] = replace(rows[0], options="--preset mnist-mlp", codes=("c1_cat10",))
    rows[1] = replace(rows[1], options="--preset mnist-mlp --objective gan")
    monkeypatch.setattr(paper, "EXPERIMENTS", tuple(rows))


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands run here: starting Python for each takes longer than what it does."""

    def run(command: list[str]) -> SimpleNamespace:
        assert command[:3] == [sys.executable, "-m", "fastinfogan"]
        return SimpleNamespace(returncode=main(command[3:]))

    monkeypatch.setattr(paper, "subprocess", SimpleNamespace(run=run))


@pytest.mark.usefixtures("short", "in_this_process")
def test_a_page_of_two_runs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    only = ["--out", str(tmp_path), "--only", "mnist", "mnist-gan", "--", *OPTIONS]
    assert paper.main(["--budget", "minutes", *only]) == 0
    page = (tmp_path / "paper.md").read_text()
    assert "--preset mnist-mlp --objective gan --iterations 2 --device cpu" in page
    assert page.count("2 iterations, the CPU") == 2
    assert "`chairs-width` stands at iteration 0 and isn't finished" in page
    for picture in ("mnist/traversal_c1_cat10.png", "mnist-gan/traversal_c1_cat10.png"):
        assert f"({picture})" in page
        assert (tmp_path / picture).stat().st_size
    assert (tmp_path / "figure-1.png").stat().st_size

    only.remove("mnist")
    assert paper.main(["--budget", "hours", *only]) == 0  # a sketch grows
    assert (tmp_path / "paper.md").read_text().count("3 iterations, the CPU") == 1


def test_renders_name_the_code_that_follows_the_factor() -> None:
    experiment = next(e for e in paper.EXPERIMENTS if e.name == "faces-lighting")
    found = [
        {"factor": "azimuth", "code": "c1_uni", "value": 0.9},
        {"factor": "lighting", "code": "c4_uni", "value": -0.5},
    ]
    evaluation = {
        "codes": [{"name": "c4_uni", "mi": 0.1}], "clusterings": [],
        "disentanglement": {"correlations": found},
    }  # fmt: skip
    follow = paper._followers(experiment, evaluation)
    assert [found["code"] for found in follow] == ["c4_uni"]
    assert paper._numbers(evaluation, follow).endswith("correlation of c4_uni with lighting -0.50")


def test_every_experiment_trains_a_preset_of_the_paper(tmp_path: Path) -> None:
    for experiment in paper.EXPERIMENTS:
        words = paper.command(experiment, "hours", tmp_path, [])
        assert words[words.index("--preset") + 1] in PRESETS
        assert words[words.index("--resume") + 1] == str(tmp_path / experiment.name)


def test_a_refused_run_ends_it(
    short: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    only = ["--out", str(tmp_path), "--only", "mnist", "--", "--batch-size", "0"]
    assert paper.main(only) == 2
    assert "--batch-size" in capfd.readouterr().err
    assert not (tmp_path / "paper.md").exists()
