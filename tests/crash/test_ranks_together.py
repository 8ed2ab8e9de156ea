"""Commands on several ranks: one run, written once; a mistake or a death on one ends all."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from crashes import KILLED, Ask, ranks_of
from PIL import Image
from training_runs import NARROW, assert_same_run, newest_state

from fastinfogan.training.metrics import read_metrics

TRAIN = (
    *NARROW, "--sample-every", "6", "--checkpoint-every", "5", "--evaluate-every", "4",
)  # fmt: skip


def ask(out: Path, *arguments: str, **chosen) -> Ask:
    return Ask(arguments or (*TRAIN, "--out", str(out)), out.parent, out, **chosen)


def names(folder: Path) -> set[str]:
    """All files of a run; TensorBoard's have names of their own."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name for name in found if not name.startswith((".lock", "tensorboard/"))}


def assert_one_line(ended, *says: str) -> None:
    """All ended with code 2, and the first rank said why."""
    first, *others = ended
    print(*(f"{one.code} {one.text}" for one in ended), sep="\n")
    assert [one.code for one in ended] == [2] * len(ended), ended
    assert first.err.startswith("fastinfogan: error: ") and first.err.count("\n") == 1, ended
    assert all(word in first.err for word in says), first.err
    assert all(one.text == "" for one in others), ended


@pytest.fixture(scope="module")
def alone(crashes, tmp_path_factory):
    """The run of one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    (ended,) = crashes.run(ask(out))
    assert ended.code == 0, ended
    return out


@pytest.fixture(scope="module")
def pair(crashes, tmp_path_factory):
    """The same run of two ranks, with how many calls the first one made, and what it said."""
    out = tmp_path_factory.mktemp("pair") / "run"
    ended = crashes.run(*ranks_of(ask(out), ask(out)))
    assert [one.code for one in ended] == [0, 0], ended
    assert ended[1].text == ""
    return out, ended[0]


def distance(a: Path, b: Path) -> float:
    """Root mean square over all weights of G and D."""
    left, right = newest_state(a), newest_state(b)
    assert left.keys() == right.keys()
    squares = [
        (left[name] - right[name]).double().square().flatten()
        for name in left
        if name.endswith("weight")
    ]
    total = sum(square.sum().item() for square in squares)
    return (total / sum(square.numel() for square in squares)) ** 0.5


def test_two_ranks_leave_what_one_process_does(alone, pair):
    """The same files, the same rows of metrics to a few digits, all but the same weights."""
    out, ended = pair
    assert "2 ranks over Gloo" in ended.out and "batchnorm" not in ended.out
    assert names(out) == names(alone)
    rows = [read_metrics(folder / "metrics.jsonl") for folder in (alone, out)]
    for one, two in zip(*rows, strict=True):
        assert one.keys() == two.keys() and one["iteration"] == two["iteration"]
        assert two["d_loss"] == pytest.approx(one["d_loss"], rel=1e-2)
        assert two["mi"] == pytest.approx(one["mi"], abs=1e-2)
    assert json.loads((out / "config.json").read_text())["run"]["sync_batchnorm"] is True
    # Rounding alone parts them: a thousandth of the learning rate's steps, not whole ones.
    assert distance(alone, out) < 1e-5


@pytest.mark.parametrize("size", [1, 4])
def test_a_run_of_two_ranks_goes_on_with_any_number(crashes, tmp_path, pair, size):
    out = shutil.copytree(pair[0], tmp_path / "run")
    for path in (out / "checkpoints").glob("step_00000012.*"):
        path.unlink()  # so it goes on from 10
    asks = [ask(out, "train", "--resume", str(out))] * size
    ended = crashes.run(*(ranks_of(*asks) if size > 1 else asks))
    assert [one.code for one in ended] == [0] * size, ended
    assert "continuing after iteration 10" in ended[0].out
    assert distance(pair[0], out) < 1e-5


def test_statistics_of_each_rank_are_said_and_make_another_run(crashes, tmp_path, pair):
    out = tmp_path / "run"
    ended = crashes.run(
        *ranks_of(*[ask(out, *TRAIN, "--no-sync-batchnorm", "--out", str(out))] * 2)
    )
    assert [one.code for one in ended] == [0, 0], ended
    assert "2 ranks over Gloo, each with batchnorm statistics of its own" in ended[0].out
    assert distance(pair[0], out) > 1e-4
    config = json.loads((out / "config.json").read_text())
    assert config["run"]["sync_batchnorm"] is False


# -- Mistakes ------------------------------------------------------------------------------------


def bad(out: Path, first: tuple[str, ...], second: tuple[str, ...]) -> list[Ask]:
    """Two ranks with these options."""
    return ranks_of(*(ask(out, *TRAIN, "--out", str(out), *given) for given in (first, second)))


def test_a_batch_that_the_ranks_do_not_divide(crashes, tmp_path):
    out = tmp_path / "run"
    train = [word if word != "16" else "15" for word in TRAIN]
    ended = crashes.run(*ranks_of(*[ask(out, *train, "--out", str(out))] * 2))
    assert_one_line(ended, "--batch-size 15: 2 ranks don't divide it; 14 and 16 work")
    assert not out.exists()


@pytest.mark.parametrize(
    ("flag", "first", "second"),
    [("--seed", "1", "2"), ("--reduce-dtype", "float32", "bfloat16")],
)
def test_ranks_with_other_settings(crashes, tmp_path, flag, first, second):
    out = tmp_path / "run"
    ended = crashes.run(*bad(out, (flag, first), (flag, second)))
    says = f"{flag}: {first} on rank 0 and {second} on rank 1; every rank needs the same"
    assert_one_line(ended, says)
    assert not out.exists()


@pytest.mark.parametrize("flag", ["--out", "--resume"])
def test_ranks_that_would_wait_for_each_other_at_different_points(crashes, tmp_path, pair, flag):
    out = tmp_path / "run"
    where = str(pair[0] if flag == "--resume" else out)
    ended = crashes.run(*ranks_of(ask(out, *TRAIN), ask(out, *TRAIN, flag, where)))
    assert_one_line(ended, f"{flag}: rank 1 has it and rank 0 hasn't")
    assert not out.exists()


def test_ranks_with_other_images(crashes, tmp_path):
    out = tmp_path / "run"
    asks = []
    for shade in (0, 1):  # of the last image
        images = tmp_path / f"images-{shade}"
        images.mkdir()
        for i in range(20):
            Image.new("L", (28, 28), i + shade * (i == 19)).save(images / f"{i}.png")
        options = ("--dataset", "folder", "--data-dir", str(images), "--image-size", "28")
        train = [*options, "--channels", "1", *NARROW[3:], "--out", str(out)]
        asks.append(ask(out, "train", *train))
    ended = crashes.run(*ranks_of(*asks))
    assert_one_line(ended, "rank 1 has other images than rank 0")
    assert not out.exists()


def test_a_mistake_of_one_rank_alone_is_told_by_the_first(crashes, tmp_path):
    out = tmp_path / "run"
    on_gpu = [word if word != "cpu" else "cuda:7" for word in TRAIN]
    ended = crashes.run(*ranks_of(ask(out), ask(out, *on_gpu, "--out", str(out))))
    assert_one_line(ended, "rank 1: --device 'cuda:7' isn't there")
    assert not out.exists()


def test_an_option_that_is_none(crashes, tmp_path):
    ended = crashes.run(*bad(tmp_path / "run", ("--bogus",), ("--bogus",)))
    assert_one_line(ended, "--bogus: no option of train")


def test_a_rank_that_never_comes(crashes, tmp_path):
    out = tmp_path / "run"
    (one,) = crashes.run(*ranks_of(ask(out), size=2, wait=1))
    assert_one_line([one], "only 1 of 2 ranks have come within 1 s", "FASTINFOGAN_RANKS_WAIT")
    assert not out.exists()


def test_a_study_under_torchrun(crashes, tmp_path):
    out = tmp_path / "study"
    study = ask(out, "study", *NARROW[1:], "--jobs", "2", "--out", str(out))
    assert_one_line(crashes.run(*ranks_of(study, study)), "--jobs 2", "leave torchrun out")
    assert not out.exists()


# -- Slow disks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [("ingest", "ingest load"), ("save", "read")])
def test_a_slow_disk_may_take_longer_than_ranks_wait_for_each_other_in_training(
    crashes, tmp_path, first, second
):
    """To ingest, to load or begin to read images, and to save while the others would go on."""
    out = tmp_path / "run"
    train = [*TRAIN, "--feed", "streamed", "--out", str(out)]
    asks = [
        ask(out, *train, environment={"SLOW": what, "SLOW_SECONDS": "2.4"})
        for what in (first, second)
    ]
    ended = crashes.run(*ranks_of(*asks, wait=2))
    assert [one.code for one in ended] == [0, 0], ended
    assert len(read_metrics(out / "metrics.jsonl")) == 3


# -- Ends ----------------------------------------------------------------------------------------


def test_a_full_disk_ends_all_with_one_line(crashes, tmp_path, pair):
    out = tmp_path / "run"
    full = ask(out, mode="full", at=round(0.6 * pair[1].calls))
    ended = crashes.run(*ranks_of(full, ask(out)))
    assert_one_line(ended, "No space left on device", f"fastinfogan train --resume {out}")


@pytest.mark.parametrize("part", [0.6, pytest.param(0.2, marks=pytest.mark.slow)])
def test_a_first_rank_that_is_killed_ends_the_others_and_the_same_command_goes_on(
    crashes, tmp_path, pair, part
):
    """--or-start, as torchrun --max-restarts gives the same command again: bit for bit."""
    out = tmp_path / "run"
    again = ask(out, *TRAIN, "--resume", str(out), "--or-start")
    killed = replace(again, mode="kill", at=round(part * pair[1].calls))
    first, second = crashes.run(*ranks_of(killed, again))
    assert first.code == KILLED and second.code == 2, (first, second)
    ended = crashes.run(*ranks_of(again, again))
    assert [one.code for one in ended] == [0, 0], ended
    assert_same_run(out, pair[0])
    assert names(out) == names(pair[0])
    ended = crashes.run(*ranks_of(again, again))  # and once more, when all is done
    assert [one.code for one in ended] == [0, 0], ended
    assert ended[0].out == f"the run in {out} is finished\n"
    assert_same_run(out, pair[0])


def test_or_start_needs_a_run_and_no_other_folder(crashes, tmp_path):
    (ended,) = crashes.run(ask(tmp_path / "run", *TRAIN, "--or-start"))
    assert_one_line([ended], "--or-start: ")
    out = tmp_path / "other"
    (ended,) = crashes.run(
        ask(out, *TRAIN, "--resume", str(tmp_path / "run"), "--or-start", "--out", str(out))
    )
    assert_one_line([ended], f"--out {out}: with --or-start the run is in")
