"""Studies: many seeds of one configuration, resumable, collected, and one chosen without labels."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from image_files import write
from PIL import Image
from studies import SMALL, in_this_process
from training_runs import assert_same_run, finish_briefly

from fastinfogan.cli import main
from fastinfogan.cores import usable_cores
from fastinfogan.errors import UserError
from fastinfogan.lock import holder
from fastinfogan.study.collect import collect, compare, statistics_of
from fastinfogan.study.folder import parse_seeds, read_study
from fastinfogan.training.checkpoint import list_checkpoints

# What a process that has nothing patched knows.
BARE = ("--preset", "mnist-mlp", "--device", "cpu", "--batch-size", "16")


@pytest.fixture(autouse=True)
def _in_this_process():
    with in_this_process():
        yield


def wait_until(there):
    """Look at what other processes do until it is there, a minute at most."""
    until = time.monotonic() + 60
    while not there() and time.monotonic() < until:
        time.sleep(0.002)
    assert there()


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", (0, 1, 2)), ("4-6", (4, 5, 6)), ("9,1,3-4", (1, 3, 4, 9)), ("7-7", (7,))],
)
def test_seeds(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1,2,1", "names 1 twice"),
        ("0-3,2", "names 2 twice"),
        ("", "write a number of seeds"),
        ("0", "write a number of seeds"),
        ("5-3", "write a number of seeds"),
        ("-1", "write a number of seeds"),
        ("a", "write a number of seeds"),
        ("0-100000", "100001 seeds; 1 to 10000 work"),
        ("9" * 50, "write a number of seeds"),
    ],
)
def test_seeds_that_are_none(text, says):
    with pytest.raises(UserError, match=f"--seeds .*{says}"):
        parse_seeds(text)


def test_a_study_leaves_ordinary_runs_numbers_and_a_picture(small_study, capsys):
    content = json.loads((small_study / "study.json").read_text())
    assert content["seeds"] == [0, 1]
    found = content["found"]
    for seed in ("0", "1"):
        row = found["seeds"][seed]
        summary = json.loads((small_study / f"seed-{seed}" / "summary.json").read_text())
        (clustering,) = summary["evaluation"]["clusterings"]
        assert row["numbers"]["error"] == clustering["error_hungarian"]
        assert [iteration for iteration, _ in row["curve"]] == [3, 6]
        assert row["curve"][-1][1] == pytest.approx(clustering["error_hungarian"])
        assert -1 <= row["numbers"]["neighbourhood"] <= 1
    errors = [found["seeds"][seed]["numbers"]["error"] for seed in ("0", "1")]
    assert found["statistics"]["error"]["mean"] == pytest.approx(np.mean(errors))
    assert found["statistics"]["error"]["std"] == pytest.approx(np.std(errors, ddof=1))
    score = {int(seed): row["numbers"]["neighbourhood"] for seed, row in found["seeds"].items()}
    assert found["chosen"] == max(score, key=score.get)
    assert Image.open(small_study / "errors.png").size == (700, 450)
    assert main(["evaluate", str(small_study / "seed-0")]) == 0
    assert "error, Hungarian" in capsys.readouterr().out


def test_what_is_finished_is_not_trained_again_and_seeds_may_join(tmp_path, small_study, capsys):
    folder = tmp_path / "again"
    subprocess.run(["cp", "-r", str(small_study), str(folder)], check=True)
    before = (folder / "seed-0" / "summary.json").stat().st_mtime_ns
    arguments = ["study", *SMALL, "--seeds", "0-2", "--evaluate-every", "3", "--out", str(folder)]
    assert main(arguments) == 0
    assert (folder / "seed-0" / "summary.json").stat().st_mtime_ns == before
    assert read_study(folder).seeds == (0, 1, 2)
    assert "3 of 3 seeds" in capsys.readouterr().out


def test_only_trains_one_seed_and_anyone_collects(tmp_path, capsys):
    folder = tmp_path / "array"
    arguments = ["study", *SMALL, "--seeds", "5-6", "--out", str(folder)]
    assert main([*arguments, "--only", "1"]) == 0
    assert "1 of 2 seeds" in capsys.readouterr().out
    assert not (folder / "seed-5").exists() and (folder / "seed-6" / "summary.json").exists()
    assert main([*arguments, "--only", "2"]) == 2
    assert "--only 2: 0 to 1 work" in capsys.readouterr().err
    new = [*arguments[:-1], str(tmp_path / "new")]
    assert main([*new, "--only", "2"]) == 2
    assert "--only 2: 0 to 1 work" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows stops no process for a while")
def test_a_killed_study_goes_on_and_gives_what_an_undisturbed_one_does(tmp_path, monkeypatch):
    """SIGTERM while both seeds train: they save; started again, weights are bit for bit.

    However fast they are: each is held where it has begun, until the study has heard of its end.
    What is left of its iterations, more than a second, is the time in which that must happen.
    """
    arguments = ["study", *BARE, "--iterations", "300", "--log-every", "5", "--sample-every", "0",
                 "--seeds", "2", "--jobs", "2"]  # fmt: skip
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    command = [sys.executable, "-m", "fastinfogan", *arguments, "--out", str(parts)]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    runs, held = [parts / f"seed-{seed}" for seed in (0, 1)], {}

    def all_are_held():
        for run in runs:
            rows = run / "metrics.jsonl"
            if run not in held and rows.exists() and rows.stat().st_size:
                held[run] = int(holder(run / ".lock").removeprefix("process "))
                os.kill(held[run], signal.SIGSTOP)
        return len(held) == len(runs)

    try:
        wait_until(all_are_held)
        process.send_signal(signal.SIGTERM)
        time.sleep(1.5)  # a study looks twice a second
    finally:
        for pid in held.values():
            os.kill(pid, signal.SIGCONT)
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + signal.SIGTERM
    assert f"go on with: fastinfogan study --out {parts}" in printed
    for run in runs:
        assert not (run / "summary.json").exists() and list_checkpoints(run / "checkpoints")
    finish_briefly(monkeypatch)
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, usable_cores() // 2))  # as many as the processes had: other sums
    try:
        assert main(["study", "--out", str(parts)]) == 0  # with the study's own options
        assert main([*arguments, "--out", str(whole)]) == 0
    finally:
        torch.set_num_threads(threads)
    for run in runs:
        assert_same_run(run, whole / run.name)


@pytest.mark.skipif(os.name == "nt", reason="Windows doesn't show that a parent is gone")
@pytest.mark.parametrize("end", ["kill", pytest.param("Ctrl-C twice", marks=pytest.mark.slow)])
def test_runs_save_and_stop_when_their_study_ends_at_once_and_use_its_cache(tmp_path, end):
    """SIGKILL can't be passed on; the variable with the cache's folder is relative."""
    write(tmp_path / "images", 16)
    command = [sys.executable, "-m", "fastinfogan", "study", *BARE,
               "--iterations", "1000000", "--log-every", "5", "--seeds", "1", "--dataset", "folder",
               "--data-dir", "images", "--out", "study"]  # fmt: skip
    environment = {**os.environ, "FASTINFOGAN_CACHE": "cache"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    run = tmp_path / "study" / "seed-0"
    wait_until(lambda: (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").stat().st_size)
    for number in {"kill": [signal.SIGKILL]}.get(end, [signal.SIGINT, signal.SIGINT]):
        process.send_signal(number)
        time.sleep(0.1)
    process.wait()
    wait_until(lambda: holder(run / ".lock") is None)
    gone = "the study that started this run is gone"
    assert (gone if end == "kill" else "stopped by SIGTERM") in (run / "log.txt").read_text()
    assert list_checkpoints(run / "checkpoints")
    assert list((tmp_path / "cache" / "ingested").iterdir()) and not (run / "cache").exists()


def test_another_configuration_is_refused(small_study, capsys):
    arguments = ["study", *SMALL, "--seeds", "2", "--out", str(small_study), "--lr-g", "0.5"]
    assert main(arguments) == 2
    assert "--lr-g 0.5: the study in" in capsys.readouterr().err
    arguments[arguments.index("6")] = "7"
    assert main(arguments[:-2]) == 2
    assert "--iterations 7: the study in" in capsys.readouterr().err


def test_a_folder_of_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("x")
    assert main(["study", *SMALL, "--out", str(tmp_path)]) == 2
    assert "it holds no study.json, and isn't empty" in capsys.readouterr().err
    assert main(["study", *SMALL, "--seed", "3", "--out", str(tmp_path / "new")]) == 2
    assert "--seed 3: a study has several, with --seeds" in capsys.readouterr().err


@pytest.mark.parametrize(
    "damage",
    [
        b"{", b"[]", b'{"seeds": [], "config": {}}', b"\xff", b"[" * 50_000,
        b'{"seeds": [0, "1"], "config": {}}', b'{"seeds": [1, 0], "config": {}}',
        b'{"seeds": [0], "config": []}', b'{"seeds": [0], "config": {}}',
    ],
)  # fmt: skip
def test_a_damaged_study_is_one_line(tmp_path, small_study, capsys, damage):
    folder = tmp_path / "damaged"
    folder.mkdir()
    (folder / "study.json").write_bytes(damage)
    assert main(["study", *SMALL, "--out", str(folder)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "study.json" in err


def lose_numbers(found):
    found["seeds"]["0"]["numbers"] = 3


def lose_seeds(found):
    found["seeds"] = ["0", "1"]


def lose_score(found):
    del found["seeds"]["0"]["numbers"]["neighbourhood"]  # as where an older version looked


def lose_curve(found):
    found["seeds"]["1"]["curve"] = [["a", 0.5]]


@pytest.mark.parametrize("damage", [lose_numbers, lose_seeds, lose_score, lose_curve, dict.clear])
def test_what_is_damaged_in_a_study_is_looked_at_again(tmp_path, small_study, damage):
    folder = shutil.copytree(small_study, tmp_path / "copy")
    path = folder / "study.json"
    content = json.loads(path.read_text())
    wanted = json.dumps(content["found"])
    damage(content["found"])
    path.write_text(json.dumps(content))
    told = []
    assert json.dumps(collect(read_study(folder), told.append)) == wanted
    assert len(told) == (damage not in (dict.clear, lose_score))
    assert all(str(path) in line for line in told)


def test_a_run_that_can_not_be_looked_at_is_left_out_with_a_word(tmp_path, small_study):
    folder = shutil.copytree(small_study, tmp_path / "copy")
    shutil.rmtree(folder / "seed-1" / "checkpoints")
    (folder / "study.json").write_text(
        json.dumps({**json.loads((folder / "study.json").read_text()), "found": {}})
    )
    told = []
    found = collect(read_study(folder), told.append)
    assert list(found["seeds"]) == ["0"]
    assert len(told) == 1 and told[0].startswith("seed 1 is left out: ")


def test_a_folder_in_which_a_study_was_about_to_begin_is_no_obstacle(tmp_path, capsys):
    (tmp_path / ".study.json.7.tmp").write_text("half")
    (tmp_path / ".lock").touch()
    arguments = ["study", *SMALL, "--seeds", "1", "--out", str(tmp_path), "--only", "0"]
    assert main(arguments) == 0
    assert not (tmp_path / ".study.json.7.tmp").exists()


def test_a_seed_that_fails_is_named_and_the_others_go_on(tmp_path, capsys):
    folder = tmp_path / "fails"
    arguments = ["study", *SMALL, "--out", str(folder)]
    assert main([*arguments, "--seeds", "1-1"]) == 0
    (folder / "seed-0").mkdir()
    (folder / "seed-0" / "config.json").write_text("{}")
    assert main([*arguments, "--seeds", "0-2"]) == 2
    printed = capsys.readouterr()
    assert "seed 0: failed (exit code 2): fastinfogan: error: config.json" in printed.out
    assert "2 of 3 seeds" in printed.out
    assert "1 seed failed (0); seed-K/log.txt in" in printed.err


def test_what_may_change_reaches_seeds_that_were_begun(tmp_path, capsys):
    """A folder of images that was mistyped, say."""
    write(tmp_path / "images", 16)
    arguments = ["study", *BARE, "--iterations", "6", "--dataset", "folder", "--seeds", "1",
                 "--data-dir"]  # fmt: skip
    assert main([*arguments, str(tmp_path / "imagse"), "--out", str(tmp_path / "study")]) == 2
    assert "seed 0: failed" in capsys.readouterr().out
    assert main([*arguments, str(tmp_path / "images"), "--out", str(tmp_path / "study")]) == 0


@pytest.mark.parametrize("wrong", [("--jobs", "0"), ("--device", "cuda:99"), ("--seeds", "0")])
def test_a_mistake_leaves_no_folder(tmp_path, wrong):
    arguments = ["study", *SMALL[:-2], *wrong, "--out", str(tmp_path / "study")]
    assert main(arguments) == 2 and not (tmp_path / "study").exists()


def test_two_studies_side_by_side(tmp_path, small_study, capsys):
    one, other = shutil.copytree(small_study, tmp_path / "a"), tmp_path / "b"
    arguments = ["study", *SMALL, "--seeds", "2-4", "--evaluate-every", "3", "--out", str(other)]
    assert main(arguments) == 0
    capsys.readouterr()
    assert main(["study", "--compare", str(one), str(other)]) == 0
    printed = capsys.readouterr().out
    assert "error" in printed and "p" in printed
    a, b = (collect(read_study(folder)) for folder in (one, other))
    p = compare(a, b)["error"]["p"]
    assert 0.0 < p <= 1.0
    # Two of two below three of three: 1 of the 10 ways to rank them, twice for two sides.
    low = {"seeds": {str(i): {"numbers": {"error": e}} for i, e in enumerate((0.1, 0.2))}}
    high = {"seeds": {str(i): {"numbers": {"error": e}} for i, e in enumerate((0.3, 0.4, 0.5))}}
    for study in (low, high):
        study["statistics"] = statistics_of([row["numbers"] for row in study["seeds"].values()])
    assert compare(low, high)["error"]["p"] == pytest.approx(0.2)


def test_statistics_by_hand():
    rows = [{"error": 0.1, "mi": 2.0}, {"error": 0.3}, {"error": 0.2, "mi": float("nan")}]
    found = statistics_of(rows)
    assert found["error"] == pytest.approx(
        {"n": 3, "mean": 0.2, "std": 0.1, "min": 0.1, "max": 0.3}
    )
    assert found["mi"] == {"n": 1, "mean": 2.0, "std": 0.0, "min": 2.0, "max": 2.0}


def test_a_run_is_collapsed_if_it_said_so_itself(tmp_path, small_study):
    folder = shutil.copytree(small_study, tmp_path / "copy")
    (folder / "study.json").write_text(
        json.dumps({**json.loads((folder / "study.json").read_text()), "found": {}})
    )
    for seed, signs in enumerate(
        ([], [{"kind": "images", "since": 4, "says": "all generated images are alike"}])
    ):
        path = folder / f"seed-{seed}" / "summary.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "collapse": signs}))
    assert collect(read_study(folder))["collapsed"] == [1]
