"""A run directory has one owner at a time, and nothing that is left in it is in the way."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

import pytest
from training_runs import assert_same_weights, small
from user_errors import error_of

from fastinfogan import lock
from fastinfogan.errors import UserError
from fastinfogan.files import atomic_write, new_folder
from fastinfogan.training import directory
from fastinfogan.training.directory import is_unbegun
from fastinfogan.training.trainer import train

HOLD = """
import sys
from pathlib import Path
from fastinfogan.lock import exclusive
with exclusive(Path(sys.argv[1]), print):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def other_process(path):
    """Another process, which holds the lock at ``path``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_run_that_another_process_trains_is_refused_with_its_pid(copy, straight):
    with other_process(copy / ".lock") as other:
        says = error_of(train, small(copy, 15), copy)
        assert says == (
            f"--resume {copy}: process {other.pid} is training this run; let it end, or stop it "
            "first"
        )
        assert f"process {other.pid}" in error_of(train, small(copy, 15))  # with --out
    train(small(copy, 15), copy)  # a lock of a dead process is none
    assert_same_weights(copy, straight)


def test_a_directory_that_another_process_begins_is_refused_with_its_pid(tmp_path, brief):
    out = tmp_path / "run"
    out.mkdir()
    with other_process(out / ".lock") as other:
        says = error_of(train, small(out, 5))
        assert says.startswith(f"--out {out}: process {other.pid} is training a run there")
    assert train(small(out, 5)).iteration == 5


def test_the_owner_is_another_machine_s(copy):
    with other_process(copy / ".lock"):
        (copy / ".lock-owner").write_text("123 node7")
        assert "process 123 on node7 is training" in error_of(train, small(copy, 15), copy)
        for text in ("", "no pid", "-5 x", "\0"):
            (copy / ".lock-owner").write_text(text)
            assert "another process is training" in error_of(train, small(copy, 15), copy)


def test_a_refusal_leaves_nothing_locked(copy, brief):
    """In one program: what was refused may be tried again."""
    config = small(copy, 15)
    too_large = replace(config, optim=replace(config.optim, batch_size=999))
    for _ in range(2):
        with pytest.raises(UserError, match="--batch-size 999"):
            train(too_large, copy)
    assert train(small(copy, 15), copy).iteration == 15
    assert not (copy / ".lock-owner").exists()


def test_a_file_system_without_locks_is_said_and_no_obstacle(tmp_path, brief, monkeypatch, capsys):
    def refuse(self, **_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.FileLock, "acquire", refuse)
    assert train(small(tmp_path / "run", 5)).iteration == 5
    assert "this file system has no locks" in capsys.readouterr().out


@pytest.mark.parametrize(
    "left", [(), (".lock",), (".lock", ".lock-owner"), (".config.json.7.tmp",)]
)
def test_what_a_process_leaves_that_ends_before_its_run_begins_is_no_obstacle(
    tmp_path, brief, left
):
    out = tmp_path / "run"
    out.mkdir()
    for name in left:
        (out / name).write_text("half")
    assert is_unbegun(out)
    assert train(small(out, 5)).iteration == 5
    assert not list(out.glob("*.tmp"))


@pytest.mark.parametrize("there", ["config.json", "metrics.jsonl", "notes.txt", "checkpoints/x"])
def test_what_else_is_there_is(tmp_path, there):
    path = tmp_path / "run" / there
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    assert "exists already" in error_of(train, small(tmp_path / "run", 5))
    assert path.read_text() == "mine"


def test_a_default_name_that_is_taken_gives_the_next_free_one(tmp_path, monkeypatch, brief):
    class Noon(datetime):
        @classmethod
        def now(cls):
            return cls(2026, 1, 2, 12)

    monkeypatch.setattr(directory, "datetime", Noon)
    monkeypatch.chdir(tmp_path)
    names = [train(small(None, 1)).folder.name for _ in range(3)]
    stem = "few-digits-20260102-120000"
    assert names == [stem, f"{stem}-2", f"{stem}-3"]


def test_a_new_folder_is_nobody_else_s(tmp_path):
    stem = tmp_path / "a" / "b"
    assert [new_folder(stem).name for _ in range(3)] == ["b", "b-2", "b-3"]


def test_what_killed_sessions_left_goes_wherever_it_is(copy, brief):
    left = [
        copy / ".summary.json.1.tmp", copy / "pictures" / ".samples_00000006.png.99999999.tmp",
        copy / "checkpoints" / ".step_00000012.json.1.tmp",
        copy / "checkpoints" / "step_00000012.safetensors",
    ]  # fmt: skip
    (copy / "pictures").mkdir(exist_ok=True)
    for path in left:
        path.write_bytes(b"half")
    train(small(copy, 11), copy)
    assert not [path for path in left if path.exists()]


def test_what_killed_writers_of_one_file_left_goes_when_it_is_written(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name, pid in (("a[1].png", dead.pid), ("a[1].png", other.pid), ("b.png", dead.pid)):
        (tmp_path / f".{name}.{pid}.tmp").write_bytes(b"half")
    atomic_write(tmp_path / "a[1].png", b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {
        "a[1].png", f".a[1].png.{other.pid}.tmp", f".b.png.{dead.pid}.tmp"
    }  # fmt: skip
    other.communicate(b"\n")


def test_a_device_is_not_replaced_by_a_file(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("needs a FIFO")
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    atomic_write(path, b"content")
    assert os.read(reader, 100) == b"content"
    os.close(reader)
    assert not path.is_file()
