"""Files of a run, mutated: commands go on with what is whole, or end in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from mutations import mutate
from narrow import narrow_presets
from training_runs import newest_state

from fastinfogan.cli import main

SHORT, LONG = 1, 25  # mutations of each kind of file
KINDS = (
    "config.json", "metrics.jsonl", "summary.json", "generator.safetensors",
    "checkpoints/step_00000006.json", "checkpoints/step_00000006.safetensors",
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("narrow_presets", "no_curves")


def end_of(capsys, *arguments: object) -> int:
    """The exit code of a command: 0, or 2 and one line that says why."""
    code = main([str(argument) for argument in arguments])
    told = capsys.readouterr().err
    assert "Traceback" not in told
    if code:
        assert code == 2 and "error: " in told.splitlines()[-1], told
        assert max(map(len, told.splitlines())) < 2000, told
    return code


@pytest.fixture(scope="module")
def finished(small_run, tmp_path_factory):
    """The run as it is, and the weights with which it goes on two iterations later."""
    more = tmp_path_factory.mktemp("more") / "run"
    shutil.copytree(small_run, more)
    with narrow_presets():
        assert main(["train", "--resume", str(more), "--iterations", "8"]) == 0
    return small_run, newest_state(more)


def attack(kind: str, finished, folder: Path, capsys, seeds: range) -> None:
    run, wanted = finished
    for seed in seeds:
        copy = folder / str(seed)
        shutil.copytree(run, copy)
        path = copy / kind
        path.write_bytes(mutate(path.read_bytes(), seed))
        source = path if kind.startswith("generator") else copy
        png = folder / "samples.png"
        end_of(capsys, "sample", source, "--count", 1, "--output", png)
        if source == copy and end_of(capsys, "train", "--resume", copy, "--iterations", 8) == 0:
            state = newest_state(copy)
            assert all(state[name].equal(wanted[name]) for name in wanted), (kind, seed)
            rows = (copy / "metrics.jsonl").read_text().splitlines()
            assert all(isinstance(json.loads(row), dict) for row in rows), (kind, seed)
        shutil.rmtree(copy)


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_mutations_of_every_file_of_a_run(finished, tmp_path, capsys, kind):
    attack(kind, finished, tmp_path, capsys, range(SHORT))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_mutations_of_every_file_of_a_run(finished, tmp_path, capsys, kind):
    attack(kind, finished, tmp_path, capsys, range(1000, 1000 + LONG))
