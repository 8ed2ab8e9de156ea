"""The command line: every option is understood, and every command does its work."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fastinfogan.cli import main, parse
from fastinfogan.config import TrainConfig
from fastinfogan.data import DATASETS, dataset_status
from fastinfogan.results.generator_file import load_generator
from fastinfogan.training.checkpoint import list_checkpoints

pytestmark = pytest.mark.usefixtures("narrow_presets")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- Options ---------------------------------------------------------------------------------------


FIELDS = [  # part and field of the configuration tree
    (part.name, field.name)
    for part in dataclasses.fields(TrainConfig)
    for field in dataclasses.fields(part.default_factory)
]
WORDS = {  # what can be typed for the fields that take only certain words
    "objective": "gan", "update": "simultaneous", "engine": "reference", "separate_q": "True",
    "amp_dtype": "float16", "cuda_graphs": "True", "feed": "streamed",
    "augment": "True", "reduce_dtype": "bfloat16",
}  # fmt: skip
FLAGS = ("amp", "compile", "profile", "allow_bad")  # take no word
ON = ("sync_batchnorm",)  # neither, and are on unless --no- is before them


def test_no_options_give_the_default_configuration():
    command = parse(["train"])
    assert TrainConfig(command.data, command.model, command.optim, command.run) == TrainConfig()


@pytest.mark.parametrize(("part", "field"), FIELDS)
def test_every_field_of_the_configuration_is_an_option(part, field):
    name = field.replace("_", "-")
    if field in FLAGS:
        typed, expected = [f"--{name}"], ("True",)
    elif field in ON:
        typed, expected = [f"--no-{name}"], ("False",)
    else:
        word = WORDS.get(field, "7")
        typed, expected = [f"--{name}", word], (word, f"{word}.0")
    value = getattr(getattr(parse(["train", *typed]), part), field)
    assert str(value) in expected
    assert value != getattr(getattr(TrainConfig(), part), field)


@pytest.mark.parametrize(("part", "name"), [("run", "cuda-graphs"), ("optim", "augment")])
def test_a_switch_is_on_off_or_left_to_the_device_or_the_preset(part, name):
    def value(*arguments):
        return getattr(getattr(parse(["train", *arguments]), part), name.replace("-", "_"))

    assert value() is None
    assert value(f"--{name}", "--seed", "3") is True
    assert value("--seed", "3", f"--{name}") is True
    assert value(f"--no-{name}") is False
    assert value(f"--{name}", "False") is False


def test_resume_keeps_what_is_not_given(small_run):
    command = parse(["train", "--resume", str(small_run), "--iterations", "9"])
    assert command.optim.batch_size == 16 and command.model.preset == "narrow-mnist"
    assert command.optim.iterations == 9


# -- What the commands do ------------------------------------------------------------------------


def test_dry_run_shows_shapes_and_counts_and_does_nothing(folder, capsys):
    before = sorted(folder.rglob("*"))
    assert main(["train", "--dry-run", "--preset", "mnist"]) == 0
    out = capsys.readouterr().out
    assert "13,336,014 parameters" in out  # 6,645,121 + 6,690,893
    assert "1024 -> 128x7x7" in out and "1x28x28 -> 64x14x14" in out
    assert "H(c) in total: 3.689 nats" in out
    assert sorted(folder.rglob("*")) == before


def test_dry_run_of_a_continued_run_is_refused_as_the_run_would_be(small_run, capsys):
    assert main(["train", "--resume", str(small_run), "--iterations", "9", "--dry-run"]) == 0
    assert "narrow-mnist" in capsys.readouterr().out
    assert main(["train", "--resume", str(small_run), "--dataset", "celeba", "--dry-run"]) == 2
    assert "--dataset celeba: the run in" in capsys.readouterr().err


def test_evaluate_prints_errors_and_the_map(small_run, capsys):
    assert main(["evaluate", str(small_run), "--samples", "100"]) == 0
    text = capsys.readouterr().out
    assert "Hungarian" in text and "NMI" in text and "c1_cat10" in text
    assert main(["evaluate", str(small_run), "--samples", "100", "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert [code["name"] for code in tree["codes"]] == ["c1_cat10", "c2_uni", "c3_uni"]


@pytest.mark.parametrize("source", ["run", "file"])
def test_sample_with_codes_set_by_hand(small_run, folder, source):
    path = small_run if source == "run" else small_run / "generator.safetensors"
    codes = ["--set", "c1=3,c2_uni=-1.5", "--count", "5"]
    assert main(["sample", str(path), *codes, "--output", "s.npz"]) == 0
    arrays = np.load("s.npz")
    assert arrays["images"].shape == (5, 28, 28, 1) and arrays["images"].dtype == np.uint8
    assert (arrays["values"][:, 0] == 3).all() and (arrays["values"][:, 1] == -1.5).all()
    assert len(np.unique(arrays["values"][:, 2])) == 5
    assert main(["sample", str(path), *codes]) == 0
    assert Image.open("samples.png").size[0] > 5 * 28


def test_a_run_and_its_file_give_the_same_images(small_run, folder):
    for path, name in ((small_run, "a.npz"), (small_run / "generator.safetensors", "b.npz")):
        assert main(["sample", str(path), "--count", "4", "--output", name]) == 0
    images = np.load("a.npz")["images"]
    assert (images == np.load("b.npz")["images"]).all()
    assert (images == load_generator(small_run).sample(4)).all()


def test_traverse_draws_one_code_or_all(small_run, folder, capsys):
    assert main(["traverse", str(small_run), "--code", "c2", "--columns", "7", "--rows", "3"]) == 0
    assert capsys.readouterr().out == "traversal_c2_uni.png\n"
    # c1 is pinned: c2 and c3 are left, and what was drawn without it stays.
    assert main(["traverse", str(small_run), "--set", "c1=3"]) == 0
    assert sorted(path.name for path in folder.glob("*.png")) == [
        "traversal_c2_uni.png",
        "traversal_c2_uni_c1_cat10=3.png",
        "traversal_c3_uni_c1_cat10=3.png",
    ]


def test_export_writes_the_generator_of_the_newest_checkpoint(small_run, folder):
    assert main(["export", str(small_run), "--output", "g.safetensors"]) == 0
    assert (folder / "g.safetensors").read_bytes() == (
        small_run / "generator.safetensors"
    ).read_bytes()


def test_export_loads_no_images_and_says_what_the_categories_show_only_if_it_is_known(
    small_run, folder, monkeypatch
):
    """The labels come from the evaluation of these very weights, or are left out."""

    def refuse(*args, **kwargs):
        raise AssertionError("the dataset was loaded")

    monkeypatch.setattr("fastinfogan.results.run.load_images", refuse)
    copy = shutil.copytree(small_run, folder / "copy")
    known = load_generator(small_run / "generator.safetensors").code_to_label
    assert known.keys() == {"c1_cat10"}
    summary = json.loads((copy / "summary.json").read_text())
    for iterations, labels in ((6, known), (5, {})):
        (copy / "summary.json").write_text(json.dumps({**summary, "iterations": iterations}))
        assert main(["export", str(copy), "--output", "g.safetensors"]) == 0
        assert load_generator("g.safetensors").code_to_label == labels


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "RUN", "--samples", "100"],
        ["sample", "RUN", "--count", "1"],
        ["traverse", "RUN", "--code", "c2", "--rows", "1"],
        ["export", "RUN"],
    ],
)
def test_a_damaged_checkpoint_is_not_passed_over_in_silence(small_run, folder, capsys, arguments):
    copy = shutil.copytree(small_run, folder / "copy")
    newest, _ = list_checkpoints(copy / "checkpoints")
    newest.write_bytes(newest.read_bytes()[:-1])
    assert main([str(copy) if word == "RUN" else word for word in arguments]) == 0
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and newest.name in err and "damaged" in err


@pytest.mark.parametrize("columns", [None, 60, 80, 200])
def test_datasets_lists_every_one_no_wider_than_a_page(capsys, monkeypatch, columns):
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(
        os, "get_terminal_size", lambda *args: os.terminal_size((0, 0))
    )  # as of a pipe
    if columns is not None:
        monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["datasets"]) == 0
    out = capsys.readouterr().out
    entries = []
    for line in out.splitlines():
        if not line.startswith(" "):
            name, status, rest = re.fullmatch(
                r"(\S+) +(ready|downloads|needs files)( .*)?", line
            ).groups()
            entries.append([name, status, (rest or "").split()])
        else:
            entries[-1][2] += line.split()
    states = {name: dataset_status(name) for name in DATASETS}
    lacks = {name: "needs files" for name in DATASETS}
    lacks |= dict.fromkeys(("mnist", "fashion-mnist"), "downloads")
    assert entries == [
        [name, "ready" if ready else lacks[name], f"{DATASETS[name].summary} {detail}".split()]
        for name, (ready, detail) in states.items()
    ]
    for line in out.splitlines():
        assert line == line.rstrip()
        assert len(line) <= (columns or 100) or " " not in line.strip()  # a long address


def test_a_folder_of_images_end_to_end(folder):
    """Grey images of any size, networks of 16x16, codes of every kind."""
    (folder / "images").mkdir()
    random = np.random.default_rng(0)
    for i in range(20):
        pixels = random.integers(0, 255, (24, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
    size = ["--image-size", "16", "--channels", "1", "--codes", "cat3,uni:learned,bern,gauss"]
    arguments = ["--dataset", "folder", "--data-dir", "images", *size, "--batch-size", "4"]
    assert main(["train", *arguments, "--iterations", "3", "--out", "run", "--device", "cpu"]) == 0
    summary = json.loads((folder / "run" / "summary.json").read_text())
    assert summary["evaluation"]["clusterings"] == []  # no labels
    assert {p.stem for p in (folder / "run").glob("traversal*")} == {
        "traversal_c1_cat3", "traversal_c2_uni", "traversal_c3_bern", "traversal_c4_gauss",
    }  # fmt: skip


# -- The package ---------------------------------------------------------------------------------


def test_help_does_not_wait_for_torch(tmp_path):
    code = "import sys, fastinfogan.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == 0


def test_the_package_names_everything_it_promises():
    import fastinfogan

    for name in fastinfogan.__all__:
        assert getattr(fastinfogan, name) is not None
