"""Damaged metrics and summaries: what is wrong is named, the rest is kept, nothing breaks."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import namedtuple
from dataclasses import replace

import pytest
from training_runs import assert_same_weights, small

from fastinfogan import files
from fastinfogan.cli import main
from fastinfogan.errors import UserError
from fastinfogan.results.generator_file import load_generator
from fastinfogan.results.run import load_run
from fastinfogan.training import checkpoint, metrics, space
from fastinfogan.training.metrics import read_metrics
from fastinfogan.training.trainer import train


def changed(row: bytes, **fields) -> bytes:
    return json.dumps({**json.loads(row), **fields}).encode()


BAD_LINES = {
    "a byte that is no text": lambda row: row[:20] + b"\xff" + row[21:],
    "another brace": lambda row: row.replace(b"{", b"[", 1),
    "no JSON": lambda row: b"hello",
    "cut short": lambda row: row[:30],
    "nothing": lambda row: b"",
    "zeros": lambda row: bytes(len(row)),
    "a number": lambda row: b"3",
    "a list": lambda row: b"[1, 2]",
    "deep": lambda row: b"[" * 50_000,
    "no iteration": lambda row: row.replace(b'"iteration"', b'"iteratioN"'),
    "an iteration before the first": lambda row: changed(row, iteration=0),
    "a loss of 400 digits": lambda row: changed(row, d_loss=10**400),
    "an iteration in words": lambda row: changed(row, iteration="8"),
    "no L_I of a code": lambda row: row.replace(b"c1_cat10", b"c1_cat1p"),
    "no numbers": lambda row: changed(row, d_loss=None),
    "an evaluation of something else": lambda row: changed(row, evaluation={"c1": 3}),
}


@pytest.mark.parametrize("damage", BAD_LINES)
def test_a_bad_line_of_metrics_is_named_and_the_rest_is_kept(copy, straight, capsys, damage):
    path = copy / "metrics.jsonl"
    lines = path.read_bytes().splitlines()
    lines[0] = BAD_LINES[damage](lines[0])
    path.write_bytes(b"\n".join(lines) + b"\n")
    before = path.read_bytes()
    train(small(copy, 15), resume=copy)
    said = capsys.readouterr().out
    assert f"{path}: 1 damaged line passed over: 1 (" in said
    assert (copy / "metrics.jsonl.damaged").read_bytes() == before
    assert read_metrics(path) == read_metrics(path)
    assert [row["iteration"] for row in read_metrics(path)] == [8, 10, 12, 15]
    assert_same_weights(copy, straight)


def test_a_line_that_a_crash_cut_short_is_no_damage(copy, capsys):
    with open(copy / "metrics.jsonl", "ab") as file:
        file.write(b'{"iteration": 12, "d_lo')
    train(small(copy, 15), resume=copy)
    said = capsys.readouterr().out
    assert "damaged" not in said and "missing" not in said
    assert [row["iteration"] for row in read_metrics(copy / "metrics.jsonl")] == [4, 8, 10, 12, 15]


def test_a_row_of_a_later_iteration_among_earlier_ones_is_not_dropped_in_silence(copy, capsys):
    path = copy / "metrics.jsonl"
    first, *rest = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([changed(first, iteration=4000), *rest, b""]))
    train(small(copy, 15), resume=copy)
    assert f"{path}: the row of iteration 4000 stands before that of 8, and is left out" in (
        capsys.readouterr().out
    )


def test_a_row_that_lost_its_end_is_missed(copy, capsys):
    """One bad byte, in the last line's newline: it looks as if it had been cut short."""
    path = copy / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-1] + b"\x0b")
    train(small(copy, 15), resume=copy)
    assert "the row of iteration 10 is missing" in capsys.readouterr().out


def test_a_run_that_has_written_no_row_yet_misses_none(tmp_path, brief, spoil, capsys):
    out = tmp_path / "run"
    spoil(before=lambda engine, call: os.kill(os.getpid(), signal.SIGTERM) if call == 7 else None)
    assert train(small(out, 9, log_every=100)).iteration == 7
    assert read_metrics(out / "metrics.jsonl") == []
    train(resume=out)
    assert "missing" not in capsys.readouterr().out


def test_metrics_that_are_gone_are_missed(copy, capsys):
    (copy / "metrics.jsonl").unlink()
    train(small(copy, 15), resume=copy)
    assert "the row of iteration 10 is missing" in capsys.readouterr().out
    assert [row["iteration"] for row in read_metrics(copy / "metrics.jsonl")] == [12, 15]


def test_a_finished_run_without_metrics_is_finished_again(finished, tmp_path, capsys):
    """Nothing to draw curves from, but numbers, pictures and the generator."""
    run = shutil.copytree(finished.folder, tmp_path / "run")
    (run / "metrics.jsonl").write_bytes(b"\xff\n" * 3)
    (run / "summary.json").write_text("{")
    train(resume=run)
    said = capsys.readouterr()
    assert "3 damaged lines passed over" in said.out
    assert "summary.json is damaged" in said.err
    assert json.loads((run / "summary.json").read_text())["last_metrics"] is None


def test_rows_are_on_the_disk_before_the_checkpoint_that_counts_them(tmp_path, brief, monkeypatch):
    order = []
    sync, write = metrics.MetricsLog.sync, checkpoint.atomic_write
    monkeypatch.setattr(
        metrics.MetricsLog, "sync", lambda log: (order.append("rows"), sync(log))[1]
    )
    monkeypatch.setattr(
        checkpoint, "atomic_write", lambda *file: (order.append(file[0].suffix), write(*file))[1]
    )
    train(small(tmp_path / "run", 10))
    assert order == ["rows", ".safetensors", ".json"] * 2


# -- summary.json ----------------------------------------------------------------------------------


def in_summary(*keys, value):
    """The summary with another value somewhere."""

    def damage(summary):
        part = summary
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value
        return json.dumps(summary).encode()

    return damage


BAD_SUMMARIES = {
    "cut": lambda summary: json.dumps(summary).encode()[:-9],
    "no text": lambda summary: b"\xff" + json.dumps(summary).encode(),
    "a list": lambda summary: b"[]",
    "deep": lambda summary: b"[" * 50_000,
    "null": lambda summary: b"null",
    "iterations in words": in_summary("iterations", value="12"),
    "no evaluation": in_summary("evaluation", value=None),
    "codes of another kind": in_summary("evaluation", "codes", value={"a": 1}),
    "an error in words": in_summary("evaluation", "clusterings", 0, "error_hungarian", value="x"),
    "a map that is a list": in_summary("evaluation", "code_to_label", value=["a"]),
    "a map of another code": in_summary("evaluation", "code_to_label", value={"c9": ["a"] * 10}),
    "too few labels": in_summary("evaluation", "code_to_label", value={"c1_cat10": ["a"] * 9}),
    "labels of numbers": in_summary("evaluation", "code_to_label", value={"c1_cat10": [1] * 10}),
    "signs of another kind": in_summary("collapse", value=3),
}


@pytest.mark.parametrize("damage", BAD_SUMMARIES)
def test_a_damaged_summary_is_named(finished, tmp_path, damage):
    run = shutil.copytree(finished.folder, tmp_path / "run")
    path = run / "summary.json"
    path.write_bytes(BAD_SUMMARIES[damage](json.loads(path.read_text())))
    told = []
    assert load_run(run, tell=told.append).code_to_label == {}
    (line,) = told
    assert line.startswith(f"{path} is damaged, passed over: ") and "\n" not in line
    assert f"train --resume {run}" in line


def test_a_damaged_summary_is_written_again(finished, tmp_path, capsys):
    run = shutil.copytree(finished.folder, tmp_path / "run")
    (run / "summary.json").write_bytes(b"{}")
    assert main(["export", str(run)]) == 0
    assert capsys.readouterr().err.count("\n") == 1
    assert load_generator(run / "generator.safetensors").code_to_label == {}
    train(resume=run)  # nothing is left to be trained, but all is to be finished
    labels = {name: list(value) for name, value in finished.code_to_label.items()}
    assert load_run(run).code_to_label == labels
    assert load_generator(run / "generator.safetensors").code_to_label == labels


def test_a_finished_run_whose_checkpoints_are_gone_is_not_trained_anew(finished, tmp_path):
    run = shutil.copytree(finished.folder, tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    before = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match="was finished, but its checkpoints are gone"):
        train(resume=run)
    assert (run / "metrics.jsonl").read_bytes() == before


# -- Room ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resumed", [False, True])
def test_a_disk_that_is_too_small_is_refused_before_training(copy, monkeypatch, resumed):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: usage(1, 1, 12_345))
    out = copy if resumed else copy.parent / "new" / "run"
    with pytest.raises(UserError) as refused:
        train(small(out, 15), resume=copy if resumed else None)
    says = str(refused.value)
    flag = "--resume" if resumed else "--out"
    assert says.startswith(f"{flag} {out}: its disk has 12.3 kB free, and ")
    assert " are needed (" in says
    assert ("on another disk with --out" in says) != resumed
    assert not (copy.parent / "new").exists()


@pytest.mark.parametrize("answer", [OSError("no such call"), (0, 0, 0)])
def test_a_disk_that_does_not_say_is_trusted(tmp_path, brief, monkeypatch, answer):
    def usage(path):
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(files.shutil, "disk_usage", usage)
    assert train(small(tmp_path / "run", 1)).iteration == 1


def test_what_a_run_needs_is_what_it_takes(finished, monkeypatch):
    """Not less than what a finished run holds, and not twice as much."""
    asked, config = [], finished.config
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: usage(1, 1, 0))
    monkeypatch.setattr(space, "too_little", lambda free, needed: asked.append(needed) or "x")
    with pytest.raises(UserError):
        train(replace(config, run=replace(config.run, out=finished.folder.parent / "other")))
    left = [path for path in finished.folder.rglob("*") if path.is_file()]
    took = sum(path.stat().st_size for path in left)
    assert 0.7 * took < asked[0] < 2 * took
