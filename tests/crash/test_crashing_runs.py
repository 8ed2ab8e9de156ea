"""Training that is killed, or finds the disk full, at any file-system call: nothing is lost."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from crashes import KILLED, Ask, points, some_or_all
from training_runs import NARROW, assert_same_run

from fastinfogan.training.checkpoint import list_checkpoints

TRAIN = (*NARROW, "--sample-every", "6", "--checkpoint-every", "5", "--evaluate-every", "4")


def ask(out: Path, *arguments: str, **chosen) -> Ask:
    return Ask(arguments or (*TRAIN, "--out", str(out)), out.parent, out, **chosen)


def resume(out: Path) -> Ask:
    return ask(out, "train", "--resume", str(out))


def names(folder: Path) -> set[str]:
    """All that a run leaves; TensorBoard has a file for each session."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name for name in found if not name.startswith((".lock", "tensorboard/"))}


def assert_one_line(ended) -> None:
    """It ended for a reason that it says, in one line."""
    assert ended.code == 2 and "Traceback" not in ended.text, ended
    assert ended.err.startswith("fastinfogan: error: ") and ended.err.count("\n") == 1, ended


def assert_recovers(crashes, out: Path, whole: Path) -> None:
    """What is left goes on, and comes to what an undisturbed run does."""
    begun = (out / "config.json").exists()
    (ended,) = crashes.run(resume(out) if begun else ask(out))
    assert "Traceback" not in ended.text and "damaged" not in ended.text, ended
    if ended.code == 2 and (out / "summary.json").exists():  # it was killed after all was done
        assert "the run is finished, with 12 iterations; --iterations" in ended.err
    else:
        assert ended.code == 0, ended
    assert_same_run(out, whole)
    a, b = ((folder / "generator.safetensors").read_bytes() for folder in (out, whole))
    assert a == b
    assert names(out) == names(whole)


@pytest.fixture(scope="module")
def whole(crashes, tmp_path_factory):
    """The run that nothing happened to, and how many calls it took."""
    out = tmp_path_factory.mktemp("whole") / "run"
    (ended,) = crashes.run(ask(out))
    assert ended.code == 0 and ended.calls >= 100, ended
    return out, ended.calls


@some_or_all(2)
@pytest.mark.parametrize("mode", ["kill", "torn"])
def test_a_run_that_is_killed_goes_on_bit_for_bit(crashes, tmp_path, whole, mode, most):
    run, calls = whole
    for at in points(calls, most):
        out = tmp_path / f"{mode}-{at}"
        (ended,) = crashes.run(ask(out, mode=mode, at=at))
        assert ended.code == KILLED, (at, ended)
        assert_recovers(crashes, out, run)
        shutil.rmtree(out)


@some_or_all(2)
def test_a_disk_that_is_full_from_some_call_on_costs_nothing(crashes, tmp_path, whole, most):
    run, calls = whole
    for at in points(calls, most):
        out = tmp_path / f"full-{at}"
        (ended,) = crashes.run(ask(out, mode="full", at=at))
        if ended.code == 0:  # nothing was left to be written but TensorBoard's
            assert (out / "summary.json").exists()
            continue
        assert_one_line(ended)
        assert "No space left on device" in ended.err and str(out) in ended.err
        assert not list(out.rglob("*.tmp"))
        if (out / "config.json").exists():
            assert f"fastinfogan train --resume {out}" in ended.err
            saved = list_checkpoints(out / "checkpoints")
            assert (saved[0].stem if saved else "no checkpoint yet") in ended.err
        else:
            assert not out.exists()
            assert "nothing was begun" in ended.err or "can't be made" in ended.err
        assert_recovers(crashes, out, run)
        shutil.rmtree(out)


# -- Starts at the same time ---------------------------------------------------------------------


LONG = ("--iterations", "120")
LONGER = tuple("120" if word == "12" else word for word in NARROW)


@pytest.fixture(scope="module")
def longer(crashes, tmp_path_factory):
    """An undisturbed run that takes so long that another can't come after it."""
    out = tmp_path_factory.mktemp("longer") / "run"
    (ended,) = crashes.run(ask(out, *LONGER, "--out", str(out)))
    assert ended.code == 0, ended
    return out


def test_of_two_that_start_with_one_out_one_trains(crashes, tmp_path, longer):
    out = tmp_path / "run"
    asks = [ask(out, *LONGER, "--out", str(out))] * 3
    ended = sorted(crashes.run(*asks), key=lambda one: one.code)
    assert [one.code for one in ended] == [0, 2, 2], ended
    for one in ended[1:]:
        assert_one_line(one)
        assert f"--out {out}: process {ended[0].pid} is training a run there" in one.err
    assert_same_run(out, longer)


def test_of_two_that_resume_one_run_one_does(crashes, tmp_path, longer):
    out = tmp_path / "run"
    crashes.run(ask(out, *NARROW, "--out", str(out)))
    asks = [ask(out, "train", "--resume", str(out), *LONG)] * 2
    ended = sorted(crashes.run(*asks), key=lambda one: one.code)
    assert [one.code for one in ended] == [0, 2], ended
    assert_one_line(ended[1])
    assert f"--resume {out}: process {ended[0].pid} is training this run" in ended[1].err
    assert_same_run(out, longer)


def test_those_that_are_given_no_directory_get_one_each(crashes, tmp_path, whole):
    asks = [replace(ask(tmp_path / "run", *TRAIN), cwd=tmp_path) for _ in range(3)]
    ended = crashes.run(*asks)
    assert [one.code for one in ended] == [0, 0, 0], ended
    folders = sorted((tmp_path / "runs").iterdir())
    assert len(folders) == 3
    for folder in folders:
        assert_same_run(folder, whole[0])
        assert json.loads((folder / "config.json").read_text())["run"]["out"] == (
            f"runs/{folder.name}"
        )
