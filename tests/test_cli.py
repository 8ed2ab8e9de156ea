"""The command line: every mistake is one line and exit code 2, and every command does its work."""

from __future__ import annotations

import dataclasses
import gzip
import json
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from narrow import narrow_presets
from PIL import Image

from fastinfogan.cli import main, parse
from fastinfogan.config import TrainConfig
from fastinfogan.data import DATASETS
from fastinfogan.results.generator_file import load_generator
from fastinfogan.training.checkpoint import list_checkpoints

SMALL = (
    "--preset", "narrow-mnist", "--batch-size", "16", "--iterations", "6", "--device", "cpu",
    "--checkpoint-every", "3",
)  # fmt: skip
pytestmark = pytest.mark.usefixtures("narrow_presets")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run."""
    with narrow_presets():
        folder = tmp_path_factory.mktemp("runs") / "run"
        assert main(["train", *SMALL, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory with a few things in it that can go wrong."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "something").write_text("kept")
    (tmp_path / "idx").mkdir()
    (tmp_path / "small").mkdir()
    for where, count, side in (("idx", 50, 28), ("small", 10, 20)):
        for split in ("train", "t10k"):
            pixels = struct.pack(">4i", 2051, 10, side, side) + bytes(count * side * side)
            labels = struct.pack(">2i", 2049, 10) + bytes(10)
            if where == "idx":
                pixels = pixels[: 16 + 5 * side * side]  # five images of the ten it announces
            (tmp_path / where / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(pixels))
            (tmp_path / where / f"{split}-labels-idx1-ubyte").write_bytes(labels)
    return tmp_path


NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
MISTAKES = [
    (("--dataset", "digitz"), ("--dataset 'digitz'", "digits")),
    (("--codes", "cat10,dog"), ("--codes", "'dog'", "catK")),
    (("--codes", "65xuni"), ("--codes '65xuni'", "1 to 64")),
    (("--codes", "cat5000"), ("--codes 'cat5000'", "2 to 1024")),
    (("--preset", "mnits"), ("--preset 'mnits'", "did you mean mnist")),
    (("--preset", "celeba"), ("--preset celeba", "3x32x32", "1x28x28", "mnist")),
    (("--dataset", "folder"), ("--data-dir",)),
    (("--dataset", "folder", "--data-dir", "nowhere"), ("--data-dir 'nowhere'", "exist")),
    (("--dataset", "folder", "--data-dir", "empty"), ("--data-dir 'empty'", "empty")),
    (("--dataset", "folder", "--data-dir", "taken"), ("--data-dir 'taken'",)),
    (("--dataset", "folder", "--image-size", "48"), ("--image-size 48", "16, 32, 64")),
    (("--image-size", "32"), ("--image-size 32", "28")),
    (("--dry-run", "--image-size", "32"), ("--image-size 32", "28")),
    (("--channels", "3"), ("--channels 3", "1")),
    (("--dataset", "mnist", "--data-dir", "empty"), ("--data-dir 'empty'",)),
    (("--dataset", "mnist", "--data-dir", "taken"), ("--data-dir 'taken'", "train-images")),
    (("--dataset", "mnist", "--data-dir", "idx"), ("train-images-idx3-ubyte.gz",)),
    (("--dataset", "mnist", "--data-dir", "small"), ("20x20", "28x28")),
    (("--batch-size", "5001"), ("--batch-size 5001", "5000")),
    (("--device", "tpu"), ("--device 'tpu'", "cpu")),
    pytest.param(("--device", "cuda"), ("--device 'cuda'", "no GPU"), marks=NO_GPU),
    (("--out", "empty"), ("--out empty", "exists", "--resume")),
    (("--out", "taken"), ("--out taken", "exists", "--resume")),
    (("--out", "taken/something"), ("--out taken/something", "exists")),
    (("--resume", "nowhere"), ("nowhere", "no run directory")),
    (("--resume", "taken"), ("taken", "no run directory")),
]


@pytest.mark.parametrize(("arguments", "says"), MISTAKES)
def test_a_mistake_is_one_line_exit_code_2_and_leaves_nothing(folder, capsys, arguments, says):
    before = sorted(folder.rglob("*"))
    assert main(["train", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("fastinfogan: error: ") and err.count("\n") == 1
    for words in says:
        assert words in err
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("--lr-g", "0.5"), ("--lr-g 0.5", "0.001", "optim.lr_g")),
        (("--codes", "cat10"), ("--codes cat10", "model.codes")),
        (("--dataset", "mnist"), ("--dataset mnist", "digits")),
        (("--seed", "3"), ("--seed 3", "run.seed")),
        (("--iterations", "6"), ("--iterations 6", "has done 6")),
        (("--out", "elsewhere", "--iterations", "9"), ("--out elsewhere", "leave it out")),
    ],
)
def test_resuming_with_what_cannot_change_names_the_field(run, capsys, change, says):
    assert main(["train", "--resume", str(run), *change]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and all(words in err for words in says)


def test_resume_keeps_what_is_not_given(run):
    command = parse(["train", "--resume", str(run), "--iterations", "9"])
    assert command.optim.batch_size == 16 and command.model.preset == "narrow-mnist"
    assert command.optim.iterations == 9


@pytest.mark.parametrize(
    "arguments", [["train", "--update", "both"], ["train", "--nonsense"], ["trian"], []]
)
def test_what_cannot_be_parsed_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sample", "RUN", "--set", "c9=1"], "c9"),
        (["sample", "RUN", "--set", "c1=10"], "0 to 9"),
        (["sample", "RUN", "--set", "c1=x"], "--set 'c1=x'"),
        (["sample", "RUN", "--count", "0"], "--count 0"),
        (["sample", "RUN", "--output", "nowhere/x.png"], "--output nowhere/x.png"),
        (["sample", "RUN", "--output", "x.gif"], ".png and .npz"),
        (["sample", "RUN", "--seed", "-1"], "--seed -1"),
        (["sample", "nowhere"], "nowhere"),
        (["traverse", "RUN", "--code", "c7"], "--code 'c7'"),
        (["traverse", "RUN", "--output", "x.png"], "--code"),
        (["traverse", "RUN", "--set", "c1=0,c2=0,c3=0"], "none is left"),
        (["traverse", "RUN", "--rows", "0"], "--rows 0"),
        (["traverse", "RUN", "--low", "nan"], "--low nan"),
        (["traverse", "RUN", "--high", "inf"], "--high inf"),
        (["evaluate", "nowhere"], "no run directory"),
        (["evaluate", "RUN", "--samples", "0"], "--samples 0"),
        (["export", "RUN", "--output", "nowhere/g.safetensors"], "--output"),
    ],
)
def test_mistakes_with_a_run(run, folder, capsys, arguments, says):
    before = sorted(folder.rglob("*"))
    assert main([str(run) if word == "RUN" else word for word in arguments]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and says in err
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_the_system_or_the_user_stops_is_one_line(monkeypatch, capsys, error, code, says):
    def stop(*args):
        raise error

    monkeypatch.setattr("fastinfogan.training.trainer.train", stop)
    assert main(["train"]) == code
    err = capsys.readouterr().err
    assert err.startswith("fastinfogan: ") and err.count("\n") == 1 and says in err


# -- What the commands do ------------------------------------------------------------------------


FIELDS = [  # part and field of the configuration tree
    (part.name, field.name)
    for part in dataclasses.fields(TrainConfig)
    for field in dataclasses.fields(part.default_factory)
]
WORDS = {  # what can be typed for the fields that take only certain words
    "objective": "gan", "update": "simultaneous", "engine": "reference", "separate_q": "True",
    "amp_dtype": "float16", "compile": "False", "cuda_graphs": "True", "resident": "no",
}  # fmt: skip
FLAGS = ("amp", "profile", "allow_bad")  # take no word


def test_no_options_give_the_default_configuration():
    command = parse(["train"])
    assert TrainConfig(command.data, command.model, command.optim, command.run) == TrainConfig()


@pytest.mark.parametrize(("part", "field"), FIELDS)
def test_every_field_of_the_configuration_is_an_option(part, field):
    typed = [] if field in FLAGS else [WORDS.get(field, "7")]
    command = parse(["train", "--" + field.replace("_", "-"), *typed])
    value = getattr(getattr(command, part), field)
    assert value is True if field in FLAGS else str(value) in (typed[0], f"{typed[0]}.0")
    assert value != getattr(getattr(TrainConfig(), part), field)


@pytest.mark.parametrize("name", ["compile", "cuda-graphs"])
def test_a_switch_is_on_off_or_left_to_the_device(name):
    def value(*arguments):
        return getattr(parse(["train", *arguments]).run, name.replace("-", "_"))

    assert value() is None
    assert value(f"--{name}", "--seed", "3") is True
    assert value("--seed", "3", f"--{name}") is True
    assert value(f"--no-{name}") is False
    assert value(f"--{name}", "False") is False


def test_dry_run_shows_shapes_and_counts_and_does_nothing(folder, capsys):
    before = sorted(folder.rglob("*"))
    assert main(["train", "--dry-run", "--preset", "mnist"]) == 0
    out = capsys.readouterr().out
    assert "13,336,014 parameters" in out  # 6,645,121 + 6,690,893
    assert "1024 -> 128x7x7" in out and "1x28x28 -> 64x14x14" in out
    assert "H(c) in total: 3.689 nats" in out
    assert sorted(folder.rglob("*")) == before


def test_evaluate_prints_errors_and_the_map(run, capsys):
    assert main(["evaluate", str(run), "--samples", "100"]) == 0
    text = capsys.readouterr().out
    assert "Hungarian" in text and "NMI" in text and "c1_cat10" in text
    assert main(["evaluate", str(run), "--samples", "100", "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert [code["name"] for code in tree["codes"]] == ["c1_cat10", "c2_uni", "c3_uni"]


@pytest.mark.parametrize("source", ["run", "file"])
def test_sample_with_codes_set_by_hand(run, folder, source):
    path = run if source == "run" else run / "generator.safetensors"
    codes = ["--set", "c1=3,c2_uni=-1.5", "--count", "5"]
    assert main(["sample", str(path), *codes, "--output", "s.npz"]) == 0
    arrays = np.load("s.npz")
    assert arrays["images"].shape == (5, 28, 28, 1) and arrays["images"].dtype == np.uint8
    assert (arrays["values"][:, 0] == 3).all() and (arrays["values"][:, 1] == -1.5).all()
    assert len(np.unique(arrays["values"][:, 2])) == 5
    assert main(["sample", str(path), *codes]) == 0
    assert Image.open("samples.png").size[0] > 5 * 28


def test_a_run_and_its_file_give_the_same_images(run, folder):
    for path, name in ((run, "a.npz"), (run / "generator.safetensors", "b.npz")):
        assert main(["sample", str(path), "--count", "4", "--output", name]) == 0
    assert (np.load("a.npz")["images"] == np.load("b.npz")["images"]).all()


def test_traverse_draws_one_code_or_all(run, folder, capsys):
    assert main(["traverse", str(run), "--code", "c2", "--columns", "7", "--rows", "3"]) == 0
    assert capsys.readouterr().out == "traversal_c2_uni.png\n"
    assert main(["traverse", str(run), "--set", "c1=3"]) == 0  # c1 is pinned: c2 and c3 are left
    assert sorted(path.name for path in folder.glob("*.png")) == [
        "traversal_c2_uni.png",
        "traversal_c3_uni.png",
    ]


def test_export_writes_the_generator_of_the_newest_checkpoint(run, folder):
    assert main(["export", str(run), "--output", "g.safetensors"]) == 0
    assert (folder / "g.safetensors").read_bytes() == (run / "generator.safetensors").read_bytes()


def test_export_loads_no_images_and_says_what_the_categories_show_only_if_it_is_known(
    run, folder, monkeypatch
):
    """The labels come from the evaluation of these very weights, or are left out."""

    def refuse(*args, **kwargs):
        raise AssertionError("the dataset was loaded")

    monkeypatch.setattr("fastinfogan.results.run.load_images", refuse)
    copy = shutil.copytree(run, folder / "copy")
    known = load_generator(run / "generator.safetensors").code_to_label
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
def test_a_damaged_checkpoint_is_not_passed_over_in_silence(run, folder, capsys, arguments):
    copy = shutil.copytree(run, folder / "copy")
    newest, _ = list_checkpoints(copy / "checkpoints")
    newest.write_bytes(newest.read_bytes()[:-1])
    assert main([str(copy) if word == "RUN" else word for word in arguments]) == 0
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and newest.name in err and "damaged" in err


def test_datasets_lists_every_one(capsys):
    assert main(["datasets"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in DATASETS)


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


def test_help_does_not_wait_for_torch(tmp_path):
    code = "import sys, fastinfogan.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == 0


def test_the_package_names_everything_it_promises():
    import fastinfogan

    for name in fastinfogan.__all__:
        assert getattr(fastinfogan, name) is not None


def test_ctrl_c_while_libraries_load_ends_the_process():
    """Some libraries swallow a KeyboardInterrupt while they are imported."""
    code = (
        "import os, signal\n"
        "from fastinfogan.cli import _leaving_at_once\n"
        "with _leaving_at_once():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        print('still here')\n"
        "    except BaseException:\n"
        "        print('swallowed')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 130 and done.stdout == ""
    assert done.stderr.startswith("fastinfogan: interrupted") and done.stderr.count("\n") == 1
