"""Whatever is typed ends in success, or in one line that says what was wrong: thousands of lines.

Training is cut to its first iteration, and networks to a sixteenth of their width; all else is what
runs for a user. A case that fails is printed as it was typed.
"""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from narrow import narrow
from PIL import Image
from specifications import Specifications
from training_runs import few_digits

from fastinfogan.cli import main
from fastinfogan.config import PRESETS
from fastinfogan.config.presets import FAMILIES
from fastinfogan.data import DATASETS
from fastinfogan.training.trainer import Training

pytestmark = pytest.mark.usefixtures("narrow_presets")

STREAMS, EACH = 40, 150  # of the long form


@pytest.fixture
def places(tmp_path, monkeypatch, small_run):
    """A working directory with what command lines may name; what would take long is cut short."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTINFOGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "images").mkdir()
    random = np.random.default_rng(0)
    for i in range(20):
        Image.fromarray(random.integers(0, 255, (20, 20, 3), np.uint8)).save(f"images/{i}.png")
    shutil.copytree(small_run, "run")
    for name in [name for name in PRESETS if not name.startswith("narrow-")]:
        monkeypatch.setitem(PRESETS, name, PRESETS[f"narrow-{name}"])
    for name, family in list(FAMILIES.items()):
        monkeypatch.setitem(FAMILIES, name, lambda *shape, of=family: narrow(of(*shape)))

    def first_iteration(training):
        if not training.plan.compile:
            training._advance(1)
        return SimpleNamespace(evaluation=None, interrupted=None)

    monkeypatch.setattr(Training, "run", first_iteration)
    monkeypatch.setattr("webbrowser.open", lambda url: True)
    monkeypatch.setattr("fastinfogan.study.jobs.run_seeds", lambda *args: ([], None))
    # No downloads, and no rendering.
    for name in ("mnist", "fashion-mnist", "sprites", "rendered-faces", "rendered-chairs"):
        monkeypatch.setitem(DATASETS, name, DATASETS["folder"])
    with few_digits():
        monkeypatch.setitem(DATASETS, "digits", DATASETS["few-digits"])
        yield {
            "run": "run", "file": "run/generator.safetensors", "folder": "folder",
            "images": "images", "checkpoint": "run/checkpoints", "json": "run/config.json",
        }  # fmt: skip


def check(arguments, capsys, folder):
    """Run a command line, which must end well or say what is wrong in one line."""
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = ended.code
    except BaseException as error:
        pytest.fail(f"{type(error).__name__}: {error} from {arguments!r}"[:3000])
    err = capsys.readouterr().err.splitlines()
    assert code in (0, 2), arguments
    assert all(line.startswith("fastinfogan: ") and len(line) < 8000 for line in err), arguments
    errors = [line for line in err if line.startswith("fastinfogan: error: ")]
    assert len(errors) == (code == 2) and errors == err[len(err) - len(errors) :], arguments
    assert not list(folder.glob("~*")), arguments


def test_a_few_random_command_lines(places, capsys, tmp_path):
    drawn = Specifications(0, places)
    for _ in range(120):
        check(drawn.draw(), capsys, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("stream", range(1, STREAMS + 1))
def test_many_random_command_lines(places, capsys, tmp_path, stream):
    drawn = Specifications(stream, places)
    for _ in range(EACH):
        check(drawn.draw(), capsys, tmp_path)
