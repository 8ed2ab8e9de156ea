"""What people try who have only read the README: each gets one line that says what works."""

from __future__ import annotations

import errno
import os
import shutil

import pytest
from image_files import write
from PIL import Image

from fastinfogan.cli import main
from fastinfogan.config import TrainConfig
from fastinfogan.config.jitter import parse_jitter
from fastinfogan.lock import exclusive
from fastinfogan.study.folder import open_study
from fastinfogan.training.directory import LOCK

pytestmark = pytest.mark.usefixtures("narrow_presets")


def error_line(capsys, *arguments) -> str:
    """What a command says that can't be done: one line, whoever finds the mistake."""
    try:
        code = main([str(word) for word in arguments])
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    assert code == 2 and not out
    assert err.startswith("fastinfogan: error: ") and err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "ending"),
    [
        (("export", "z.onnx"), ".safetensors"), (("export", "z"), ".safetensors"),
        (("export", "z.pt"), ".safetensors"), (("traverse", "y.jpg"), ".png"),
        (("traverse", "y.npz"), ".png"), (("traverse", "y"), ".png"), (("sample", "y"), ".npz"),
    ],
)  # fmt: skip
def test_no_file_of_one_type_under_the_name_of_another(
    small_run, tmp_path, monkeypatch, capsys, arguments, ending
):
    monkeypatch.chdir(tmp_path)
    command, name = arguments
    code = ("--code", "c1") if command == "traverse" else ()
    said = error_line(capsys, command, small_run, "--output", name, *code)
    assert f"--output {name}: names ending in " in said and ending in said
    assert ("--format onnx writes ONNX" in said) == (name == "z.onnx")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("command", ["sample", "traverse", "export"])
def test_a_folder_that_can_not_be_written_to_names_output(
    small_run, tmp_path, monkeypatch, capsys, command
):
    monkeypatch.chdir(tmp_path)

    def refuse(path, content):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    for module in ("grid", "generator_file"):
        monkeypatch.setattr(f"fastinfogan.results.{module}.atomic_write", refuse)
    said = error_line(capsys, command, small_run)
    assert "can't be written: Read-only file system; --output names another place" in said


@pytest.mark.parametrize("given", [("--low", "-1"), ("--high", "1"), ("--low", "-2.0")])
def test_categories_have_no_low_and_high(small_run, tmp_path, monkeypatch, capsys, given):
    monkeypatch.chdir(tmp_path)
    said = error_line(capsys, "traverse", small_run, "--code", "c1", *given)
    assert f"{given[0]} " in said and "not for c1_cat10" in said
    said = error_line(capsys, "traverse", small_run, "--set", "c2=0,c3=0", *given)
    assert "not for c1_cat10" in said
    assert main(["traverse", str(small_run), "--rows", "1", "--columns", "2", *given]) == 0


@pytest.mark.parametrize("command", ["train --resume RUN", "study --out STUDY"])
@pytest.mark.parametrize(
    "change",
    [("--dataset", "sprites"), ("--dataset", "folder"), ("--preset", "celeba"),
     ("--dataset", "mnist", "--image-size", "64")],
)  # fmt: skip
def test_what_makes_it_another_run_is_said_before_what_does_not_fit(
    small_run, tmp_path, capsys, command, change
):
    name, option, folder = command.split()
    if folder == "RUN":
        folder, was = small_run, {"--dataset": "digits", "--preset": "narrow-mnist"}[change[0]]
    else:
        folder, was = tmp_path / "study", {"--dataset": "digits", "--preset": "digits"}[change[0]]
        open_study(folder, TrainConfig(), (0,))
    said = error_line(capsys, name, option, folder, *change)
    assert f"{change[0]} {change[1]}: the {'run' if name == 'train' else 'study'} in" in said
    assert f"was started with {was}" in said and f"leave {change[0]} out" in said


@pytest.mark.parametrize(
    ("dataset", "preset", "fits"),
    [("sprites", "mnist", True), ("faces", "mnist", True), ("svhn", "mnist", True),
     ("digits", "celeba", False), ("digits", "sprites", False)],
)  # fmt: skip
def test_presets_that_fit_work(capsys, dataset, preset, fits):
    said = error_line(capsys, "train", "--dry-run", "--dataset", dataset, "--preset", preset)
    named = said.split("presets that fit: ")[1].strip().split(", ")
    assert ("folder" in named) == fits
    for name in named:
        assert main(["train", "--dry-run", "--dataset", dataset, "--preset", name]) == 0


def test_images_that_come_with_the_installation_have_no_folder(small_run, capsys):
    said = error_line(capsys, "evaluate", small_run, "--data-dir", "x")
    assert "--data-dir x: this run learned from digits" in said and "leave it out" in said
    assert "--dataset" not in said


@pytest.mark.parametrize("command", ["evaluate", "sample", "export"])
def test_a_run_without_a_checkpoint(small_run, tmp_path, capsys, command):
    folder = tmp_path / "young"
    folder.mkdir()
    shutil.copy(small_run / "config.json", folder)
    assert f"train --resume {folder} makes one" in error_line(capsys, command, folder)
    with exclusive(folder / LOCK, print):
        said = error_line(capsys, command, folder)
    assert f"process {os.getpid()} trains it, and there is no checkpoint yet" in said


@pytest.mark.parametrize("command", [("evaluate",), ("sample",), ("train", "--resume")])
def test_a_folder_that_holds_runs_names_one(small_run, tmp_path, capsys, command):
    for name in ("seed-0", "seed-1"):
        (tmp_path / name).mkdir()
        shutil.copy(small_run / "config.json", tmp_path / name)
    inside = f"name a run inside, such as {tmp_path / 'seed-0'}"
    said = error_line(capsys, *command, tmp_path)
    assert "it is a folder with runs" in said and inside in said
    (tmp_path / "study.json").touch()
    said = error_line(capsys, *command, tmp_path)
    assert "it is a study" in said and inside in said


@pytest.mark.parametrize("command", [("evaluate",), ("export",), ("train", "--resume")])
def test_a_generator_alone_is_for_sample_and_traverse(small_run, capsys, command):
    said = error_line(capsys, *command, small_run / "generator.safetensors")
    assert "a generator alone has no Q; sample, traverse and explore take it" in said


@pytest.mark.parametrize(
    ("jitter", "example"),
    [
        ("rotation", "rotation=0.3"),
        ("brightness=", "brightness=0.2"),
        ("flip", "flip=1"),
        ("exposure", "exposure=0.4"),
    ],
)
def test_a_change_without_its_range_shows_one_that_works(capsys, jitter, example):
    said = error_line(capsys, "train", "--jitter", jitter)
    assert f"as in {example}\n" in said
    assert parse_jitter(example)


@pytest.mark.parametrize(
    ("command", "flag", "says"),
    [
        ("train", "--workers", "OMP_NUM_THREADS"), ("train", "--num-workers", "OMP_NUM_THREADS"),
        ("train", "--num_threads", "OMP_NUM_THREADS"), ("ingest", "--workers", "OMP_NUM_THREADS"),
        ("study", "--num-workers", "--jobs"),
    ],
)  # fmt: skip
def test_there_are_no_workers(capsys, command, flag, says):
    assert says in error_line(capsys, command, flag, "4")


@pytest.mark.parametrize("content", [b"", b"{\n\n", b"hello"])
def test_what_is_no_json_is_not_told_in_the_words_of_the_parser(
    small_run, tmp_path, capsys, content
):
    folder = shutil.copytree(small_run, tmp_path / "run")
    for path in sorted((folder / "checkpoints").glob("*.json")):
        path.write_bytes(content)
    lines = content.count(b"\n") + 1
    said = [error_line(capsys, "evaluate", folder)]
    (folder / "config.json").write_bytes(content)
    said.append(error_line(capsys, "evaluate", folder))
    assert "put back a copy, or start a new run" in said[-1]
    file = tmp_path / "generator.safetensors"
    file.write_bytes(len(content).to_bytes(8, "little") + content)
    said.append(error_line(capsys, "sample", file))
    assert "fastinfogan export RUN writes such a file anew" in said[-1]
    assert all(f"it isn't JSON, at line {lines}" in one and "char" not in one for one in said)


@pytest.mark.parametrize("change", ["one more", "another"])
def test_going_on_with_other_images_says_how_many_there_are_and_what_works(
    tmp_path, own_cache, capsys, change
):
    images, run = tmp_path / "images", tmp_path / "run"
    write(images, 16)
    options = ("--device", "cpu", "--batch-size", "8", "--image-size", "28", "--channels", "1")
    arguments = ["--dataset", "folder", "--data-dir", str(images), "--preset", "mnist-mlp"]
    command = ["train", *arguments, *options, "--iterations", "2", "--out", str(run)]
    assert main(command) == 0
    first = sorted(images.rglob("*.*"))[0]
    if change == "another":
        Image.new("RGB", (40, 40), "red").save(first)
    else:
        shutil.copy(first, first.with_stem("more"))
    capsys.readouterr()
    assert main(["train", "--resume", str(run), "--iterations", "4"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    count = 17 if change == "one more" else 16
    assert f"--data-dir {images}: its {count} images are not the images that the run in" in said
    assert "put back what was there, or start a new run with --out" in said
