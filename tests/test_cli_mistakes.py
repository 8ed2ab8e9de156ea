"""The command line: every mistake, and every stop, is one line with its exit code."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys

import pytest
import torch

from fastinfogan.cli import main

pytestmark = pytest.mark.usefixtures("narrow_presets")


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
    (("--consistency", "-1"), ("--consistency -1", "0 or more")),
    (
        ("--codes", "3xuni", "--consistency", "1"),
        ("--consistency 1", "--codes 3xuni", "--consistency 0"),
    ),
    (
        ("--objective", "gan", "--consistency", "1"),
        ("--consistency 1", "--objective gan", "--consistency 0"),
    ),
    (("--contrastive", "-1"), ("--contrastive -1", "0 or more")),
    (("--contrastive", "1", "--gap-until", "-1"), ("--gap-until -1", "0 or more")),
    (("--gap-until", "5"), ("--gap-until 5: without --contrastive", "--gap-until 0 works")),
    (
        (
            "--dataset",
            "sprites",
            "--preset",
            "infogan-cr",
            "--gap-until",
            "5",
            "--objective",
            "gan",
        ),
        ("--gap-until 5: without --contrastive", "--contrastive 1"),
    ),
    (("--orthogonal", "-1"), ("--orthogonal -1", "0 or more")),
    (
        ("--codes", "cat10,uni,gauss:free", "--orthogonal", "1"),
        ("--orthogonal 1", "--codes cat10,uni,gauss:free", "--orthogonal 0", "2xuni"),
    ),
    (
        ("--objective", "gan", "--orthogonal", "1"),
        ("--orthogonal 1", "--objective gan", "--orthogonal 0"),
    ),
    (("--decay", "1.5"), ("--decay 1.5", "0 to 1")),
    (("--decay", "-0.1"), ("--decay -0.1", "0 to 1")),
    (
        ("--codes", "cat10,uni,gauss:free", "--contrastive", "1"),
        ("--contrastive 1", "--codes cat10,uni,gauss:free", "2xuni"),
    ),
    (
        ("--objective", "gan", "--contrastive", "1"),
        ("--contrastive 1", "--objective gan", "--contrastive 0"),
    ),
    (("--codes", "64xuni", "--contrastive", "1"), ("--contrastive 1", "64xuni", "63 work")),
    (
        ("--contrastive", "1", "--batch-size", "33"),
        ("--batch-size 33", "--contrastive 1", "34 works"),
    ),
    (("--jitter", "rotation=3.14"), ("--jitter 'rotation=3.14'", "0 to 0.8")),
    (("--jitter", "shift=1"), ("--jitter 'shift=1'", "0 to 0.5")),
    (("--jitter", "wobble"), ("--jitter 'wobble'", "rotation", "flip")),
    (("--jitter", ""), ("--jitter ''", "--augment")),
    (("--batch-size", "5001"), ("--batch-size 5001", "5000")),
    (("--device", "tpu"), ("--device 'tpu'", "cpu")),
    pytest.param(("--device", "cuda"), ("--device 'cuda'", "no GPU"), marks=NO_GPU),
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
        ((), ("the run is finished, with 6 iterations", "--iterations")),
        (("--iterations", "6"), ("the run is finished, with 6 iterations", "--iterations")),
        (("--iterations", "5"), ("--iterations 5", "has done 6; ask for more")),
        (("--out", "elsewhere", "--iterations", "9"), ("--out elsewhere", "leave it out")),
    ],
)
def test_resuming_with_what_cannot_change_names_the_field(small_run, capsys, change, says):
    assert main(["train", "--resume", str(small_run), *change]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and all(words in err for words in says)


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
        (["traverse", "RUN", "--code", "c1", "--columns", "4"], "--columns 4: it is for contin"),
        (["traverse", "RUN", "--high", "inf"], "--high inf"),
        (["evaluate", "nowhere"], "no run directory"),
        (["evaluate", "RUN", "--samples", "0"], "--samples 0"),
        (["export", "RUN", "--output", "nowhere/g.safetensors"], "--output"),
    ],
)
def test_mistakes_with_a_run(small_run, folder, capsys, arguments, says):
    before = sorted(folder.rglob("*"))
    assert main([str(small_run) if word == "RUN" else word for word in arguments]) == 2
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


def test_ctrl_c_while_libraries_load_ends_the_process(tmp_path):
    """Some libraries swallow a KeyboardInterrupt while they are imported."""
    code = (
        "import os, signal\n"
        "from fastinfogan.cli.interrupt import leaving_at_once\n"
        "with leaving_at_once():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        print('still here')\n"
        "    except BaseException:\n"
        "        print('swallowed')\n"
    )
    # Not in the checkout, whose ./fastinfogan would hide an installed one and lacks the kernels.
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 130 and done.stdout == ""
    assert done.stderr.startswith("fastinfogan: interrupted") and done.stderr.count("\n") == 1


def test_a_current_folder_that_is_gone_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        tmp_path.rmdir()
    except OSError:
        pytest.skip("this system keeps the folders that processes are in")
    assert main(["train"]) == 2
    assert capsys.readouterr().err == (
        "fastinfogan: error: the current folder is not there any more; change to another\n"
    )
