"""What is typed: ~ in paths, options given twice, absurd numbers, names that others use."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from image_files import write
from training_runs import finish_briefly, small
from user_errors import error_of

from fastinfogan.cli import COMMANDS, main, parse
from fastinfogan.cli.foreign import OPTIONS, REMARKS, command_hint
from fastinfogan.cli.options import options_of
from fastinfogan.config import DataConfig, RunConfig
from fastinfogan.data import DATASETS, dataset_status
from fastinfogan.data.fetch import cache_directory
from fastinfogan.errors import is_out_of_memory, range_works
from fastinfogan.paths import expanded
from fastinfogan.printable import LONGEST, printable
from fastinfogan.results.generator_file import load_generator
from fastinfogan.results.run import load_run
from fastinfogan.results.run_config import read_config
from fastinfogan.training.trainer import train

pytestmark = pytest.mark.usefixtures("narrow_presets")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder, and an empty working directory beside it."""
    for name in ("home", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


def said(arguments, capsys) -> str:
    """The one line that a command line is refused with."""
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = ended.code
    out, err = capsys.readouterr()
    assert code == 2 and not out
    assert err.startswith("fastinfogan: error: ") and err.count("\n") == 1
    return err


# -- Paths -----------------------------------------------------------------------------------------


def test_a_home_folder_is_never_a_folder_of_that_name(home, capsys, small_run):
    shutil.copytree(small_run, home / "run")
    assert main(["sample", "~/run", "--count", "2", "--output=~/two.png"]) == 0
    assert main(["traverse", "~/run", "--code=c2", "--rows=1", "--output=~/row.png"]) == 0
    assert main(["export", "~/run", "--output=~/g.safetensors"]) == 0
    assert {path.name for path in home.iterdir()} == {"run", "two.png", "row.png", "g.safetensors"}
    assert not list(Path.cwd().iterdir())
    assert str(home / "two.png") in capsys.readouterr().out
    for flag, field in (("--out=~/x", "run.out"), ("--data-dir=~/x", "data.data_dir")):
        part, name = field.split(".")
        assert getattr(getattr(parse(["train", flag]), part), name) == home / "x"
    assert parse(["study", "--compare", "~/a", "~/b"]).compare == (home / "a", home / "b")
    assert parse(["ingest", "--data-dir=~/x"]).data_dir == home / "x"


def test_from_python_too(home, small_run):
    shutil.copytree(small_run, home / "run")
    assert load_run("~/run").folder == home / "run"
    assert load_generator("~/run/generator.safetensors").spec.names[0] == "c1_cat10"
    assert DataConfig(data_dir=Path("~/x")).data_dir == home / "x"
    assert RunConfig(out="~/x").out == home / "x"
    assert str(home / "nowhere") in dataset_status("folder", "~/nowhere")[1]
    assert str(home / "nowhere") in error_of(load_run, "~/nowhere")


def test_in_the_environment_too(home, monkeypatch):
    monkeypatch.setenv("FASTINFOGAN_CACHE", "~/cache")
    assert cache_directory("mnist") == home / "cache" / "mnist"
    monkeypatch.setenv("FASTINFOGAN_CACHE", "cache")
    assert cache_directory("mnist") == Path.cwd() / "cache" / "mnist"
    monkeypatch.delenv("FASTINFOGAN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "~/xdg")
    assert cache_directory("mnist").is_relative_to(home)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("~nobody-of-that-name/x", "./~nobody-of-that-name/x"),
        ("", "a path is missing"),
        ("a\0b", "NUL"),
    ],
)
def test_paths_that_cannot_be(home, capsys, typed, says):
    for flag in ("--out", "--data-dir"):
        err = said(["train", "--dry-run", f"{flag}={typed}"], capsys)
        assert flag in err and says in err
    assert not list(Path.cwd().iterdir())


def test_without_a_home_the_cache_asks_for_a_folder(monkeypatch, capsys):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("FASTINFOGAN_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def nobody(uid):
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert "FASTINFOGAN_CACHE" in error_of(cache_directory, "mnist")
    assert "~" in error_of(expanded, "~/x")
    assert main(["datasets"]) == 0  # it still lists them all
    out = capsys.readouterr().out
    assert all(name in out for name in DATASETS) and "set FASTINFOGAN_CACHE" in out


def test_a_relative_folder_of_images_is_found_from_anywhere(home, monkeypatch, own_cache):
    finish = pytest.MonkeyPatch()
    finish_briefly(finish)
    write(Path("images"), 20)
    data = DataConfig("folder", Path("images"), image_size=28, channels=1)
    run = train(replace(small(home / "run", 5), data=data))
    monkeypatch.chdir(home)
    assert read_config(home / "run").data.data_dir == home.parent / "here" / "images"
    assert run.evaluate(samples=10).images == 20
    finish.undo()
    assert main(["evaluate", "run", "--samples", "10"]) == 0
    assert main(["train", "--resume", "run", "--iterations", "6"]) == 0


# -- Given twice -----------------------------------------------------------------------------------


def test_lists_given_twice_add_up(small_run, home):
    twice = ["--set", "c1=3", "--set=c2=-1"]
    assert main(["sample", str(small_run), "--count", "4", *twice, "--output", "s.npz"]) == 0
    values = np.load("s.npz")["values"]
    assert (values[:, 0] == 3).all() and (values[:, 1] == -1).all()
    train = parse(["train", "--codes", "cat10", "--codes", "uni,uni", "--jitter=flip=1", "--jitter",
                   "scale=0.1"])  # fmt: skip
    assert train.model.codes == "cat10,uni,uni" and train.optim.jitter == "flip=1,scale=0.1"


@pytest.mark.parametrize(
    "typed",
    [
        "train --seed 1 --seed 2", "train --iterations 5 --iterations=6", "train --amp --no-amp",
        "train --compile --no-compile", "train --augment --augment", "train --dry-run --dry-run",
        "train --out a --out b", "train --data-dir a --data_dir b", "sample RUN --seed 3 --seed 4",
        "traverse RUN --low -1 --low -2", "study --seeds 1 --seeds 4", "evaluate RUN --json --json",
        "study --compare a b --compare c d", "ingest --dataset svhn --dataset celeba",
    ],
)  # fmt: skip
def test_anything_else_given_twice_is_refused(typed, capsys):
    words = typed.split()
    flag = next(word for word in words if word.startswith("--")).split("=")[0]
    err = said(words, capsys)
    assert flag in err and "counts once" in err


def test_a_code_that_is_set_in_two_places_is_refused(small_run, capsys):
    assert "twice" in said(["sample", str(small_run), "--set", "c1=3", "--set", "c1=4"], capsys)


# -- Absurd numbers --------------------------------------------------------------------------------

MANY = "9" * 5000


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (f"train --codes cat{MANY}", "2 to 1024"),
        (f"train --codes {MANY}xuni", "1 to 64"),
        ("train --codes 1000000000xcat10", "1 to 64"),
        ("train --noise 1000000000", "0 to 4096"),
        ("train --batch-size 10000000000", "999999999"),
        ("train --iterations 10000000000", "999999999"),
        (f"train --seed {MANY}", "whole number"),
        ("train --seed 9223372036854775808", "2^63 - 1"),
        ("train --log-every 100000000000000000000", "2^63 - 1"),
        ("train --lambda-disc inf", "1000000"),
        ("train --consistency 1e9", "1000000"),
        ("train --contrastive 1e9", "1000000"),
        ("train --gap-until 1000000000000", "999999999"),
        ("train --average 1000000000000", "999999999"),
        ("train --iterations 1e9", "whole number"),
        ("train --lr-g one", "a number"),
        (f"study --seeds {MANY}", "--seeds"),
        ("study --seeds 1000000000", "1 to 10000"),
        ("sample RUN --count 1000000000", "1 to 16384 work in a .png"),
        ("sample RUN --count 1000000000000 --output x.npz", "--count 1000000000000"),
        ("sample RUN --count 1e9", "whole number"),
        ("sample RUN --set c2=1e39", "-1000000 to 1000000"),
        ("sample RUN --seed -1", "0 to 2^63 - 1"),
        ("evaluate RUN --samples 100000000000", "1 to 1000000"),
        ("traverse RUN --rows 1000000000", "--rows 1000000000"),
        ("traverse RUN --columns 1000000000 --code c2", "--columns 1000000000"),
        ("traverse RUN --rows 200 --columns 16384 --code c2", "only 1 works"),
        ("traverse RUN --low -1e300 --high 1e300", "-1000000 to 1000000"),
    ],
)
def test_absurd_numbers_have_an_upper_bound_in_one_line(small_run, home, capsys, typed, says):
    words = [str(small_run) if word == "RUN" else word for word in typed.split()]
    err = said(words, capsys)
    assert says in err and len(err) < 1500
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate"),
        RuntimeError("[enforce fail] can't allocate memory"),
    ],
)
def test_out_of_memory_is_one_line_everywhere(small_run, capsys, monkeypatch, error):
    def full(*args, **kwargs):
        raise error

    for typed, where in (
        (["evaluate", str(small_run)], "fastinfogan.results.run.load_images"),
        (["sample", str(small_run)], "fastinfogan.results.generator.generate"),
        (["train", "--dataset", "digits"], "fastinfogan.training.trainer.build_engine"),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(where, full)
            assert "out of memory" in said(typed, capsys)
    assert is_out_of_memory(error) and not is_out_of_memory(RuntimeError("a shape is wrong"))


def test_other_errors_of_the_program_are_not_hidden(small_run, monkeypatch):
    def wrong(*args, **kwargs):
        raise RuntimeError("a shape is wrong")

    monkeypatch.setattr("fastinfogan.results.generator.generate", wrong)
    with pytest.raises(RuntimeError, match="a shape"):
        main(["sample", str(small_run)])


def test_what_is_printed_is_one_line_of_bearable_length():
    assert printable("a\nb\x1b[2Jc\td") == r"a\nb\x1b[2Jc\td"
    assert printable("\udcff ä 名") == r"\udcff ä 名"
    path = "/deep" * 60
    assert printable(f"{path} is no run") == f"{path} is no run" and len(path) < LONGEST
    assert len(printable(f"--codes {MANY}")) < 300 and "5000 characters" in printable(MANY)


def test_ranges_are_never_empty_ones():
    assert range_works(2, 5) == "2 to 5 work" and range_works(2, 2) == "only 2 works"


def test_one_image_is_too_few(home, capsys, own_cache):
    write(Path("images"), 1)
    err = said(["train", "--dataset=folder", "--data-dir=images", "--batch-size=2"], capsys)
    assert "2 or more" in err and "2 to 1" not in err


# -- Names that others use -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("train --epochs 5", "--iterations"), ("train --lr 0.1", "--lr-g"),
        ("train --batch_size_train 5", "--batch-size"), ("train --nz 100", "--noise"),
        ("train --gpu 0", "--device"), ("train --output_dir x", "--out"),
        ("train --checkpoint x", "--resume"), ("train --num-classes 10", "--codes"),
        ("train --fp16", "--amp"), ("train -iterations 5", "--iterations"),
        ("train —iterations 5", "--iterations"), ("train --Iterations 5", "--iterations"),
        ("train --samples 5", "option of evaluate"), ("train --seeds 5", "option of study"),
        ("sample RUN --num-images 5", "--count"), ("traverse RUN --steps 5", "--columns"),
        ("animate RUN --fps 5", "--frames"), ("gif RUN", "did you mean animate?"),
        ("train digits", "'digits' isn't expected"), ("sample", "name a RUN|FILE"),
        ("sample a b", "'b' isn't expected"), ("train --seed", "whole number"),
        ("train --out", "value is missing"), ("train --update both", "alternating, simultaneous"),
        ("train --separate-q maybe", "True and False"), ("train --amp=yes", "takes no value"),
        ("trian", "did you mean train?"), ("eval RUN", "did you mean evaluate?"),
        ("generate RUN", "did you mean sample?"), ("--dataset mnist", "the command comes first"),
        ("", "name a command"), ("train --dataset MNIST", "did you mean 'mnist'?"),
        ("train --dataset fashion_mnist", "did you mean 'fashion-mnist'?"),
        ("train --dataset cifar10", "any folder of images"),
        ("train --preset Celeb-A", "did you mean celeba?"),
        ("train --tyro-print-completion dash", "bash, zsh"),
    ],
)  # fmt: skip
def test_what_was_meant(typed, says, capsys):
    assert says in said(typed.split(), capsys)


def test_the_tables_of_other_names_name_what_there_is():
    there = {name for command in COMMANDS.values() for name in options_of(command)}
    assert set(OPTIONS) <= there
    assert set(REMARKS) <= set(" ".join(OPTIONS.values()).split())
    assert command_hint("zzzzzz") == ""


@pytest.mark.parametrize("flag", ["--version", "-V", "version"])
def test_the_version_is_that_of_the_package(flag, capsys):
    from importlib.metadata import version

    assert main([flag]) == 0
    assert capsys.readouterr().out == f"fastinfogan {version('fastinfogan')}\n"


@pytest.mark.parametrize("typed", [["--help"], ["help"], ["train", "--help"], ["sample", "-h"]])
def test_help_is_shown(typed, capsys):
    with pytest.raises(SystemExit) as ended:
        main(typed)
    assert ended.value.code == 0 and "usage: fastinfogan" in capsys.readouterr().out


def test_what_looks_like_an_option_can_be_a_file(small_run, home):
    os.symlink(small_run, "--run")
    assert main(["export", "--output=-g.safetensors", "--", "--run"]) == 0
    assert Path("-g.safetensors").exists()
    assert json.loads((small_run / "config.json").read_text())
