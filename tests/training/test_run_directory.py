"""What a run leaves behind: metrics, pictures, checkpoints, a summary, a trace."""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from types import FunctionType

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tolerances import FORMULA_64
from training_runs import NARROW, Killed, small

from fastinfogan import cli, load_generator
from fastinfogan.config import DataConfig, from_dict
from fastinfogan.kernels.dispatch import NATIVE
from fastinfogan.results import run as results_of_runs
from fastinfogan.results.run import load_run
from fastinfogan.training.checkpoint import list_checkpoints
from fastinfogan.training.metrics import read_metrics
from fastinfogan.training.profile import _export
from fastinfogan.training.trainer import train


def test_a_run_leaves_behind_what_it_should(finished):
    folder = finished.folder
    assert from_dict(json.loads((folder / "config.json").read_text())) == finished.config
    rows = read_metrics(folder / "metrics.jsonl")
    assert [row["iteration"] for row in rows] == [4, 8, 12]
    for row in rows:
        assert row["mi_per_code"].keys() == {"c1_cat10", "c2_uni", "c3_uni"}
        assert row["mi"] == pytest.approx(sum(row["mi_per_code"].values()))
        ceiling = math.log(10) + 2 * math.log(2)
        assert row["ceiling"] == pytest.approx(ceiling, rel=FORMULA_64)
        # sigma = 1: a perfect Q's density is 1 / sqrt(2 pi)
        best_mi = ceiling - math.log(2 * math.pi)
        assert row["best_mi"] == pytest.approx(best_mi, rel=FORMULA_64)
        # An untrained D can't tell: both of its terms are near log 2, G's likewise.
        assert 0.5 < row["d_loss"] < 2.5 and 0.2 < row["g_loss"] < 2.0
        assert row["images_per_s"] > 0
    names = {"samples", "traversal_c1_cat10", "traversal_c2_uni", "traversal_c3_uni"}
    assert {path.stem for path in folder.glob("*.png")} == names | {"curves"}
    assert {path.stem for path in (folder / "pictures").glob("*.png")} == {
        f"{name}_00000006" for name in names
    }
    for path in folder.rglob("*.png"):
        assert len(Image.open(path).convert("RGB").getcolors(1 << 24)) > 2, path
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["iterations"] == 12
    assert summary["last_metrics"] == rows[-1]
    assert summary["config_sha256"] == finished.config.fingerprint()
    # Ten digits, 500 of each: one category for all would match one digit, 0.9.
    assert 0 < summary["evaluation"]["clusterings"][0]["error_hungarian"] <= 0.9
    assert list((folder / "tensorboard").iterdir())


def test_who_is_killed_while_scoring_has_the_generator(tmp_path, monkeypatch):
    def killed(*args, **kwargs):
        raise Killed

    config = small(tmp_path / "run", 4)
    config = replace(config, optim=replace(config.optim, average=20))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(results_of_runs, "evaluate", killed)
        train(config)
    path = tmp_path / "run" / "generator.safetensors"
    kept, run = load_generator(path), load_run(path.parent)
    assert not (path.parent / "summary.json").exists() and not kept.code_to_label
    weights = run.generator.state_dict()
    assert all(torch.equal(w, weights[name]) for name, w in kept.generator.state_dict().items())
    train(resume=path.parent)
    assert load_generator(path).code_to_label.keys() == {"c1_cat10"}


def test_two_checkpoints_are_kept_and_hold_no_pickle(finished):
    found = list_checkpoints(finished.folder / "checkpoints")
    assert [path.name for path in found] == [
        "step_00000012.safetensors", "step_00000010.safetensors",
    ]  # fmt: skip
    for path in finished.folder.rglob("*"):
        assert path.suffix not in (".pt", ".pth", ".pkl")


def test_a_loaded_run_is_the_run(finished):
    loaded = load_run(finished.folder)
    assert loaded.iteration == 12
    for part in ("generator", "discriminator"):
        a, b = (getattr(run, part).state_dict() for run in (finished, loaded))
        assert all(torch.equal(a[k], b[k]) for k in a if not k.endswith("num_batches_tracked"))


def test_a_new_run_says_what_would_be_faster_and_one_that_goes_on_does_not(
    tmp_path, brief, monkeypatch, capsys
):
    """A run keeps its precision."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    advice = "--amp would be faster: this CPU has AMX for bfloat16, idle in float32"
    train(small(tmp_path / "run", 1))
    assert advice in capsys.readouterr().out.splitlines()
    train(resume=tmp_path / "run", config=small(tmp_path / "run", 2))
    out = capsys.readouterr().out
    assert "continuing after iteration 1" in out and "--amp" not in out


def test_files_that_were_skipped_are_named_at_the_start(tmp_path, brief, capsys):
    """One unreadable image among 101 is passed over, but not in silence."""
    images = tmp_path / "images"
    images.mkdir()
    for i in range(100):
        Image.new("L", (28, 28), i).save(images / f"{i:03d}.png")
    (images / "broken.png").write_bytes(b"damaged")
    config = replace(
        small(tmp_path / "run", 1), data=DataConfig("folder", images, image_size=28, channels=1)
    )
    train(config)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("100 1x28x28 images") for line in lines)
    assert "files skipped: 1 ('broken.png')" in lines


def test_a_trace_that_could_not_be_written_is_not_promised(tmp_path, monkeypatch):
    """As the profiler does it on a full disk: another name, no error. Or no folder for it."""

    class Full:
        def export_chrome_trace(self, path):
            Path(f"{path}.tmp").write_text("half")

    assert not _export(Full(), tmp_path / "trace.json")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    assert not _export(Full(), tmp_path / "trace.json")
    assert list(tmp_path.iterdir()) == []


def test_profile_leaves_a_trace_and_names_the_five_most_expensive_things(tmp_path, capsys):
    """The trace is Chrome's format; the run is the one that it would be without."""
    out = tmp_path / "run"
    assert cli.main([*NARROW, "--profile", "--out", str(out)]) == 0
    trace = json.loads((out / "trace.json").read_text())
    names = {event.get("name") for event in trace["traceEvents"]}
    assert names >= {"aten::mm", "native::bn_act_forward", "native::adam", "native::draw"}
    assert not isinstance(NATIVE.adam, FunctionType)  # but what it was
    lines = capsys.readouterr().out.splitlines()
    at = next(i for i, line in enumerate(lines) if "trace.json" in line)
    shares = [float(line.split("%")[0]) for line in lines[at + 2 : at + 7]]
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 100
    plain = tmp_path / "plain"
    assert cli.main([*NARROW, "--out", str(plain)]) == 0
    a, b = (load_file(path / "generator.safetensors") for path in (out, plain))
    assert all(torch.equal(a[name], b[name]) for name in a)
