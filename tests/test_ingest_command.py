"""The ingest command: what it prints, and what each dataset asks for."""

import time

import numpy as np
import pytest
from image_files import write
from ingesting import load
from user_errors import error_of

from fastinfogan.cli import main
from fastinfogan.cli.interrupt import interrupted
from fastinfogan.data import find_dataset, load_images
from fastinfogan.data.dataset import LoadRequest
from fastinfogan.data.ingest import cache, make
from fastinfogan.data.progress import ProgressReport
from fastinfogan.data.sources import dsprites
from fastinfogan.sizes import in_bytes, in_seconds, too_little
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


def test_ctrl_c_says_how_to_go_on(tmp_path, own_cache, capsys, monkeypatch):
    """Ingest makes no run that could be resumed; nor does training that only came to ingest."""
    write(tmp_path / "images", 30)

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(make, "decode_blocks", stop)
    says = (
        "fastinfogan: interrupted; what is ingested so far is kept, and the same command goes on "
        "from there\n"
    )
    ingest = ["ingest", "--data-dir", str(tmp_path / "images")]
    train = ["train", "--dataset", "folder", "--data-dir", str(tmp_path / "images")]
    for arguments in (ingest, train):
        assert main(arguments) == 130
        assert capsys.readouterr().err == says


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("datasets", "interrupted"),
        ("evaluate", "interrupted"),
        ("train", "interrupted; a run that was saved goes on with train --resume RUN"),
        ("study", "interrupted; it goes on with study --out FOLDER"),
    ],
)
def test_only_what_can_go_on_is_told_how(command, says):
    assert interrupted(command, KeyboardInterrupt()) == says


@pytest.mark.parametrize("compressed", [False, True])
def test_dsprites_without_an_image_are_refused(tmp_path, own_cache, compressed):
    save = np.savez_compressed if compressed else np.savez
    save(
        tmp_path / dsprites.FILE,
        imgs=np.zeros((0, 64, 64), np.uint8),
        latents_classes=np.zeros((0, 6), int),
    )
    message = error_of(load_images, "dsprites", tmp_path)
    says = f"{dsprites.FILE} holds no image; fetch it again"
    assert message == f"--data-dir {str(tmp_path)!r}: {says}"
    assert not list(own_cache.glob("*/manifest.json"))


def test_a_cache_without_an_image_is_made_again(tmp_path, own_cache, monkeypatch, capsys):
    """As versions before this one made them of an array of none."""
    write(tmp_path / "images", 3)
    found = load(tmp_path / "images")
    monkeypatch.setattr(cache, "read_manifest", lambda folder, read=cache.read_manifest: {
        **read(folder), **({"shape": [0, 16, 16, 3]} if folder.stat().st_ino == inode else {})
    })  # fmt: skip
    inode = found.folder.stat().st_ino
    again = load(tmp_path / "images")
    assert len(again.data) == 3 and "holds no image; making it again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (0, "0 bytes"), (999, "999 bytes"), (30_720, "30.7 kB"), (999_600, "1 MB"),
        (12_345_678, "12.3 MB"), (2_500_000_000, "2.5 GB"), (7e15, "7,000.0 TB"),
    ],
)  # fmt: skip
def test_sizes_are_told_in_units_that_fit(number, says):
    assert in_bytes(number) == says


@pytest.mark.parametrize(
    ("number", "says"), [(0.04, "0.0"), (9.94, "9.9"), (9.95, "10"), (1234.5, "1,234")]
)
def test_seconds_of_short_runs_have_a_digit_more(number, says):
    assert in_seconds(number) == says


def test_sizes_that_look_alike_are_told_to_the_byte():
    assert too_little(30_719, 30_720) == "30,719 bytes free, and 30,720 are needed"
    assert too_little(12_000, 30_720) == "12 kB free, and 30.7 kB are needed"


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
