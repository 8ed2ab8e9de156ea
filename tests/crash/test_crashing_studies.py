"""Studies that are killed at any file-system call, and several in one folder: nothing is lost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from crashes import KILLED, Ask, points, some_or_all
from training_runs import NARROW, assert_same_run

OPTIONS = (*NARROW[1:-4], "--iterations", "8", "--log-every", "4", "--evaluate-every", "4",
           "--checkpoint-every", "4", "--sample-every", "0")  # fmt: skip


def ask(out: Path, *more: str, **chosen) -> Ask:
    arguments = ("study", *OPTIONS, "--seeds", "2", "--jobs", "2", "--out", str(out), *more)
    return Ask(arguments, out.parent, out, **chosen)


def numbers(out: Path) -> dict:
    """What study.json found, but for times."""
    found = json.loads((out / "study.json").read_text())["found"]
    for row in found["seeds"].values():
        del row["numbers"]["seconds"]
    del found["statistics"]["seconds"]
    return found


def assert_same_study(out: Path, whole: Path) -> None:
    for seed in (0, 1):
        assert_same_run(out / f"seed-{seed}", whole / f"seed-{seed}")
    assert numbers(out) == numbers(whole)
    assert not list(out.rglob("*.tmp"))


@pytest.fixture(scope="module")
def whole(crashes, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "study"
    (ended,) = crashes.run(ask(out))
    assert ended.code == 0, ended
    return out, ended.calls


@some_or_all(2)
@pytest.mark.parametrize("mode", ["kill", "torn", "full"])
def test_a_study_that_is_killed_goes_on_bit_for_bit(crashes, tmp_path, whole, mode, most):
    """What it started saves, stops, and goes on with it."""
    run, calls = whole
    for at in points(calls, most):
        out = tmp_path / f"{mode}-{at}"
        (ended,) = crashes.run(ask(out, mode=mode, at=at))
        if mode == "full" and ended.code:
            assert ended.code == 2 and "Traceback" not in ended.text, (at, ended)
            assert ended.err.count("\n") == 1 and "fastinfogan: error: " in ended.err, (at, ended)
        elif mode != "full":
            assert ended.code == KILLED, (at, ended)
        (ended,) = crashes.run(ask(out))
        assert ended.code == 0 and "Traceback" not in ended.text, (at, ended)
        assert_same_study(out, run)


@some_or_all(2)
def test_a_study_whose_runs_are_killed_says_so_and_goes_on(crashes, tmp_path, whole, most):
    run, _ = whole
    for at in points(100, most):
        out = tmp_path / f"runs-{at}"
        crashes.run(ask(out, mode="kill", at=at, jobs=True))  # itself as well, if it comes so far
        (ended,) = crashes.run(ask(out))
        assert ended.code == 0 and "Traceback" not in ended.text, (at, ended)
        assert_same_study(out, run)


def test_two_in_one_folder_share_the_work(crashes, tmp_path, whole):
    out = tmp_path / "study"
    ended = crashes.run(ask(out), ask(out))
    assert [one.code for one in ended] == [0, 0], ended
    assert_same_study(out, whole[0])
    assert "failed" not in ended[0].text + ended[1].text
    assert "2 of 2 seeds" in ended[0].out and "2 of 2 seeds" in ended[1].out


def test_an_array_of_a_batch_system(crashes, tmp_path, whole):
    out = tmp_path / "study"
    ended = crashes.run(*(ask(out, "--only", str(k)) for k in (0, 1)))
    assert [one.code for one in ended] == [0, 0], ended
    assert_same_study(out, whole[0])
    assert any("2 of 2 seeds" in one.out for one in ended)


def test_studies_that_are_given_no_folder_get_one_each(crashes, tmp_path):
    arguments = ("study", *OPTIONS, "--seeds", "1")
    asks = [replace(ask(tmp_path / "x"), arguments=arguments, cwd=tmp_path)] * 2
    ended = crashes.run(*asks)
    assert [one.code for one in ended] == [0, 0], ended
    assert len(list((tmp_path / "studies").iterdir())) == 2
