"""Standard output and error that can't be written: training goes on, all else ends quietly."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from training_runs import NARROW, few_digits

from fastinfogan.cli import READER_LEFT, main
from fastinfogan.data import progress
from fastinfogan.tell import lasting_output, on_stderr


def broken_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w")


def full_pipe():
    """A reader that is slow, and a pipe that doesn't wait for it."""
    _, writer = os.pipe()
    os.set_blocking(writer, False)
    while True:
        try:
            os.write(writer, bytes(1 << 16))
        except BlockingIOError:
            return open(writer, "w")


def full_disk():
    return open("/dev/full", "w")


def closed():
    return None


def run(patch: pytest.MonkeyPatch, stream, arguments) -> int:
    """The command's exit code, with standard output such a stream."""
    with patch.context() as inside:
        inside.setattr(sys, "stdout", stream)
        code = main(arguments)
    if stream is not None:
        stream.close()  # as the interpreter does: there must be nothing left to complain of
    return code


@pytest.mark.usefixtures("narrow_presets")
@pytest.mark.parametrize("stdout", [broken_pipe, full_disk, full_pipe, closed])
def test_training_goes_on(tmp_path, stdout, monkeypatch, capsys):
    with few_digits():
        assert run(monkeypatch, stdout(), [*NARROW, "--out", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "summary.json").exists()
    err = capsys.readouterr().err
    if stdout in (broken_pipe, full_disk):
        assert err.startswith("fastinfogan: standard output can't be written (")
        assert "the run goes on" in err and err.count("\n") == 1
    else:
        assert err == ""


@pytest.mark.parametrize("arguments", [["datasets"], ["--help"], ["train", "--help"], ["doctor"]])
def test_other_commands_end_quietly_when_their_reader_goes(arguments, monkeypatch, capsys):
    assert run(monkeypatch, broken_pipe(), arguments) == READER_LEFT
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("arguments", [["datasets"], ["--help"], ["doctor"]])
def test_what_could_not_be_printed_is_an_error(arguments, monkeypatch, capsys):
    assert run(monkeypatch, full_disk(), arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("fastinfogan: error: standard output can't be written (No space left")
    assert err.count("\n") == 1


@pytest.mark.parametrize("stderr", [broken_pipe, full_disk, lambda: None])
def test_an_error_that_nobody_can_read_is_none_more(stderr, monkeypatch, capsys):
    stream = stderr()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        on_stderr("a line")
        assert main(["evaluate", "nothing-there"]) == 2
    if stream is not None:
        stream.close()
    assert capsys.readouterr().out == ""


def test_a_terminal_that_closes_ends_no_work_that_shows_a_bar(monkeypatch):
    pty = pytest.importorskip("pty")
    terminal, end = pty.openpty()
    monkeypatch.setattr(sys, "stderr", open(end, "w"))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "SECONDS_BEFORE_SHOWN", 0.0)
    with progress.ProgressBar("work", enabled=True) as bar:
        assert bar.shown
        os.close(terminal)
        bar.total = 2
        for _ in range(2):
            bar.update(1)


def test_what_is_wrong_otherwise_is_not_swallowed(capsys):
    with pytest.raises(UnicodeEncodeError), lasting_output("goes on"):
        sys.stdout = open(os.devnull, "w", encoding="ascii")
        try:
            with lasting_output("goes on"):
                print("σ")
        finally:
            sys.stdout.close()


def test_a_pipe_that_ends_leaves_no_word_at_the_end_of_the_process(tmp_path):
    """As a shell starts it: the interpreter flushes once more, after everything."""
    command = f"'{sys.executable}' -m fastinfogan datasets | true; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (READER_LEFT, "")


def test_closed_streams_are_never_files_of_ours(tmp_path):
    """With 1 and 2 closed the next file would be number 1, and what libraries print be in it."""
    code = (
        "import os; from fastinfogan.tell import open_closed_streams; open_closed_streams(); "
        "file = open('file', 'wb'); os.system('echo noise; echo noise >&2')"
    )
    command = f"'{sys.executable}' -c \"{code}\" <&- >&- 2>&-"
    assert subprocess.run(["bash", "-c", command], cwd=tmp_path).returncode == 0
    assert (tmp_path / "file").read_bytes() == b""
