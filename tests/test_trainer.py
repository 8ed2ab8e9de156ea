"""Training runs: what they leave behind, how they stop, and that they resume bit for bit."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fastinfogan import trainer
from fastinfogan.checkpoint import list_checkpoints
from fastinfogan.config import (
    DataConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrainConfig,
    from_dict,
)
from fastinfogan.errors import TrainingDiverged, UserError
from fastinfogan.metrics import read_metrics
from fastinfogan.run import load_run
from fastinfogan.trainer import train

pytestmark = pytest.mark.usefixtures("narrow_presets")


def small(out: Path, iterations: int = 12, **run) -> TrainConfig:
    """The real networks and digits at a sixteenth of the width."""
    settings = {"log_every": 4, "sample_every": 0, "checkpoint_every": 5, **run}
    return TrainConfig(
        model=ModelConfig(preset="narrow-mnist"),
        optim=OptimConfig(iterations=iterations, batch_size=16),
        run=RunConfig(out=out, device="cpu", **settings),
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished run that several tests read."""
    with pytest.MonkeyPatch.context() as patch:
        from conftest import add_narrow_presets

        add_narrow_presets(patch)
        folder = tmp_path_factory.mktemp("runs") / "run"
        return train(small(folder, sample_every=6))


def test_a_run_leaves_behind_what_it_should(finished):
    folder = finished.folder
    assert from_dict(json.loads((folder / "config.json").read_text())) == finished.config
    rows = read_metrics(folder / "metrics.jsonl")
    assert [row["iteration"] for row in rows] == [4, 8, 12]
    for row in rows:
        assert row["mi_per_code"].keys() == {"c1_cat10", "c2_uni", "c3_uni"}
        assert row["mi"] == pytest.approx(sum(row["mi_per_code"].values()))
        assert row["ceiling"] == pytest.approx(2.302585 + 2 * 0.693147, abs=1e-5)
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


def newest_state(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(list_checkpoints(folder / "checkpoints")[0])


def assert_same_run(a: Path, b: Path) -> None:
    """Every tensor of the last checkpoints, and every logged mean, bit for bit."""
    left, right = newest_state(a), newest_state(b)
    assert left.keys() == right.keys()
    differing = [name for name in left if not torch.equal(left[name], right[name])]
    assert not differing
    rows = [read_metrics(folder / "metrics.jsonl") for folder in (a, b)]
    for row in (*rows[0], *rows[1]):
        del row["seconds"], row["images_per_s"]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
def test_sixty_iterations_are_thirty_and_thirty(tmp_path, engine, update):
    def config(name, iterations):
        tree = small(tmp_path / name, iterations, engine=engine)
        return replace(tree, optim=replace(tree.optim, update=update))

    straight = train(config("straight", 60)).folder
    train(config("halves", 30))  # 30 isn't a multiple of 4: a log window is open
    halves = train(config("halves", 60), resume=tmp_path / "halves").folder
    states = newest_state(straight), newest_state(halves)
    assert not [name for name in states[0] if not torch.equal(states[0][name], states[1][name])]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "fastinfogan", "train", *arguments]


MLP = ("--preset", "mnist-mlp", "--device", "cpu", "--sample-every", "0", "--log-every", "7")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_run_continues_as_if_nothing_had_happened(tmp_path, number):
    out = tmp_path / "run"
    process = subprocess.Popen(
        command(*MLP, "--iterations", "1000000", "--out", str(out)),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (out / "metrics.jsonl").exists() or not (out / "metrics.jsonl").read_text():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"fastinfogan train --resume {out}" in output and "Traceback" not in output
    done = int(re.search(r"after iteration (\d+) of", output).group(1))
    more = str(done + 10)
    for name, extra in (("run", ("--resume", str(out))), ("straight", MLP)):
        where = () if name == "run" else ("--out", str(tmp_path / name))
        subprocess.run(command(*extra, *where, "--iterations", more), check=True)
    assert_same_run(out, tmp_path / "straight")


def test_a_crash_between_checkpoints_repeats_no_row(tmp_path):
    """Rows after the last checkpoint are dropped on resuming, then written again."""
    folder = train(small(tmp_path / "run", 10)).folder
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"iteration": 12, "d_loss": 0.0}\n{"iteration": 14, "d_l')
    train(small(folder, 20), resume=folder)
    rows = [row["iteration"] for row in read_metrics(folder / "metrics.jsonl")]
    assert rows == [4, 8, 10, 12, 16, 20]


# -- Damage ----------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["cut", "flipped", "json cut", "gone"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, capsys, damage):
    folder = train(small(tmp_path / "run", 10)).folder  # checkpoints at 5 and 10
    newest = list_checkpoints(folder / "checkpoints")[0]
    if damage == "gone":
        newest.unlink()
    elif damage == "json cut":
        newest.with_suffix(".json").write_text('{"iteration": 1')
    else:
        content = bytearray(newest.read_bytes())
        if damage == "cut":
            content = content[:-100]
        else:
            content[len(content) // 2] ^= 1
        newest.write_bytes(content)
    resumed = train(small(folder, 15), resume=folder)
    said = capsys.readouterr().out
    assert "step_00000010" in said and "continuing after iteration 5" in said
    assert resumed.iteration == 15
    straight = train(small(tmp_path / "straight", 15)).folder
    states = newest_state(folder), newest_state(straight)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def test_no_usable_checkpoint_is_an_error(tmp_path):
    folder = train(small(tmp_path / "run", 5)).folder
    for path in list_checkpoints(folder / "checkpoints"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="no usable checkpoint.*step_00000005"):
        train(small(folder, 10), resume=folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_loss_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path, monkeypatch, value):
    build = trainer.build_engine

    def build_bad(config, device):
        engine = build(config, device)
        step, calls = engine.step, iter(range(1, 1000))

        def bad(batch):
            losses = step(batch)
            return losses._replace(g_loss=losses.g_loss * value) if next(calls) == 7 else losses

        engine.step = bad
        return engine

    monkeypatch.setattr(trainer, "build_engine", build_bad)
    with pytest.raises(TrainingDiverged, match="iteration 8: g_loss is"):
        train(small(tmp_path / "run", 12))
    (kept,) = list_checkpoints(tmp_path / "run" / "checkpoints")
    assert kept.name == "step_00000005.safetensors"
    assert all(torch.isfinite(t).all() for t in load_file(kept).values())


def test_bad_weights_are_never_saved(tmp_path, monkeypatch):
    """Losses can still be finite when the update after them has already broken a weight."""
    build = trainer.build_engine

    def build_bad(config, device):
        engine = build(config, device)
        step, calls = engine.step, iter(range(1, 1000))

        def bad(batch):
            losses = step(batch)
            if next(calls) == 10:
                engine.generator.layers[0].op.weight.data[0, 0] = float("nan")
            return losses

        engine.step = bad
        return engine

    monkeypatch.setattr(trainer, "build_engine", build_bad)
    with pytest.raises(TrainingDiverged, match="layers.0.op.weight is not finite"):
        train(small(tmp_path / "run", 12))
    (kept,) = list_checkpoints(tmp_path / "run" / "checkpoints")
    assert kept.name == "step_00000005.safetensors"


# -- Resuming with something else --------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "change", "says"),
    [
        ("optim", {"lr_g": 5e-4}, "--lr-g 0.0005: .* started with 0.001"),
        ("optim", {"batch_size": 8}, "--batch-size 8"),
        ("optim", {"objective": "gan"}, "--objective gan"),
        ("model", {"codes": "cat10"}, "--codes cat10: .* cat10,2xuni"),
        ("model", {"noise": 3}, "--noise 3"),
        ("run", {"seed": 1}, "--seed 1"),
    ],
)
def test_an_incompatible_configuration_is_refused_by_field(finished, part, change, says):
    config = small(finished.folder, 20)
    config = replace(config, **{part: replace(getattr(config, part), **change)})
    with pytest.raises(UserError, match=says):
        train(config, resume=finished.folder)


def test_other_images_are_refused(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for i in range(20):
        Image.new("L", (28, 28), 10 * i).save(images / f"{i:02d}.png")
    config = replace(
        small(tmp_path / "run", 5), data=DataConfig("folder", images, image_size=28, channels=1)
    )
    train(config)
    Image.new("L", (28, 28), 255).save(images / "07.png")
    longer = replace(config, optim=replace(config.optim, iterations=10))
    with pytest.raises(UserError, match="--data-dir .* not the images"):
        train(longer, resume=tmp_path / "run")


def test_a_finished_run_asks_for_more_iterations(finished):
    with pytest.raises(UserError, match="--iterations 12: .* has done 12"):
        train(resume=finished.folder)


def test_a_run_cut_short_while_finishing_is_finished_on_resuming(tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    def killed(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("fastinfogan.run.Run.evaluate", killed)
        with pytest.raises(Killed):
            train(small(tmp_path / "run", 5))
    assert not (tmp_path / "run" / "summary.json").exists()
    train(resume=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["iterations"] == 5


def test_engines_may_change_on_the_way(finished, tmp_path):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder)
    run = train(small(folder, 14, engine="reference"), resume=folder)
    assert run.iteration == 14


def test_seeds_and_repetition(tmp_path):
    """The same seed gives the same run; another one another."""
    first, again, other = (
        newest_state(train(small(tmp_path / name, 5, seed=seed)).folder)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    weight = "generator.layers.0.op.weight"
    assert not torch.equal(first[weight], other[weight])


def test_out_that_cannot_be_made_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out"):
        train(small(tmp_path / "file" / "run", 5))
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        with pytest.raises(UserError, match="--out"):
            train(small(tmp_path / "run", 5))
