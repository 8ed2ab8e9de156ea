"""The ingest command: what it prints, and what each dataset asks for."""

import time

from image_files import write
from user_errors import error_of

from fastinfogan.cli import main
from fastinfogan.data import find_dataset
from fastinfogan.data.dataset import LoadRequest
from fastinfogan.data.progress import ProgressReport
from fastinfogan.tell import on_stderr


def test_the_command_ingests_then_finds_and_says_what_was_left_out(tmp_path, own_cache, capsys):
    write(tmp_path / "images", 30)
    for number in range(4):
        (tmp_path / "images" / f"bad{number or ''}.jpg").write_bytes(b"x")
    arguments = ["ingest", "--data-dir", str(tmp_path / "images"), "--channels", "1"]
    assert main(arguments) == 2
    assert "--allow-bad" in capsys.readouterr().err
    assert main([*arguments, "--allow-bad"]) == 0
    out = capsys.readouterr().out
    assert "folder, all: 30 images of 32x32x1, ingested in" in out and "'bad.jpg': not an" in out
    assert main([*arguments, "--allow-bad"]) == 0
    assert "30 images of 32x32x1, found" in capsys.readouterr().out
    assert main(["ingest", "--dataset", "digits"]) == 0
    assert "nothing to ingest" in capsys.readouterr().out


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with ProgressReport("ingesting x", 1000, True, on_stderr) as progress:
        progress.start_at(100)
        for _ in range(4):
            now[0] += 20
            progress.update(100)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "fastinfogan: ingesting x: 300 of 1,000, 5 a second, 140 s left",
        "fastinfogan: ingesting x: 500 of 1,000, 5 a second, 100 s left",
    ]


def test_every_ingested_dataset_says_where_its_files_come_from():
    for name in ("celeba", "svhn", "chairs", "faces", "dsprites", "folder"):
        dataset = find_dataset(name)
        message = error_of(dataset.source, LoadRequest(None, "train", None, None, False))
        assert message.startswith(f"--dataset {name} needs --data-dir: a directory with ")
        assert dataset.status(None)[0] is False
        if name != "folder":
            assert "http" in message
