"""A run that is resumed is the run in one go, bit for bit, wherever it was stopped."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from tolerances import TRAJECTORY_64
from training_runs import Killed, assert_same_run, assert_same_weights, newest_state, small

from fastinfogan import cli
from fastinfogan.config import ModelConfig
from fastinfogan.model.reference import Batch, Inputs
from fastinfogan.results.run import Run
from fastinfogan.training import trainer
from fastinfogan.training.checkpoint import list_checkpoints
from fastinfogan.training.metrics import read_metrics
from fastinfogan.training.trainer import train

# Sums in another order would be other bits: as many threads as conftest.py gives this process.
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
@pytest.mark.parametrize("preset", ["narrow-mnist", "narrow-digits", "contrastive"])
def test_a_run_is_its_two_halves(tmp_path, engine, update, preset):
    """Preset digits has --consistency and --augment on, which draw numbers of their own.

    A pair's gap falls until well into the second half.
    """
    more = {"contrastive": 0.6, "gap_until": 10} if preset == "contrastive" else {}

    def config(name, iterations):
        tree = small(tmp_path / name, iterations, engine=engine, log_every=2, checkpoint_every=6)
        model = ModelConfig(preset="narrow-mnist" if more else preset)
        optim = replace(tree.optim, update=update, **more)
        return replace(tree, model=model, optim=optim)

    straight = train(config("straight", 12)).folder
    train(config("halves", 6))
    halves = train(config("halves", 12), resume=tmp_path / "halves").folder
    assert_same_run(straight, halves)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "fastinfogan", "train", *arguments]


MLP = ("--preset", "mnist-mlp", "--device", "cpu", "--sample-every", "0", "--log-every", "7",
       "--batch-size", "16")  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_run_continues_as_if_nothing_had_happened(tmp_path, brief, number):
    out = tmp_path / "run"
    process = subprocess.Popen(
        command(*MLP, "--iterations", "1000000", "--out", str(out)), cwd=tmp_path, env=ONE_THREAD,
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
    more = ("--iterations", str(done + 10))
    assert cli.main(["train", "--resume", str(out), *more]) == 0
    assert cli.main(["train", *MLP, "--out", str(tmp_path / "straight"), *more]) == 0
    assert_same_run(out, tmp_path / "straight")


def test_a_crash_between_checkpoints_repeats_no_row(copy, straight):
    """Rows after the last checkpoint are dropped on resuming, then written again."""
    with open(copy / "metrics.jsonl", "a") as file:
        file.write('{"iteration": 12, "d_loss": 0.0}\n{"iteration": 14, "d_l')
    train(small(copy, 15), resume=copy)
    rows = [row["iteration"] for row in read_metrics(copy / "metrics.jsonl")]
    assert rows == [4, 8, 10, 12, 15]
    assert_same_weights(copy, straight)


def test_a_run_killed_before_its_first_checkpoint_begins_anew(
    tmp_path, straight, brief, capsys, spoil
):
    alive = True

    def kill(engine, call):
        if alive and call == 5:
            raise Killed

    spoil(before=kill)
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        train(small(folder, 15))
    assert not list_checkpoints(folder / "checkpoints")
    assert [row["iteration"] for row in read_metrics(folder / "metrics.jsonl")] == [4]
    alive = False
    train(resume=folder)
    assert "continuing after iteration 0" in capsys.readouterr().out
    assert_same_run(folder, straight)


def test_a_run_cut_short_while_finishing_is_finished_on_resuming(tmp_path, monkeypatch):
    def killed(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Run, "evaluate", killed)
        with pytest.raises(Killed):
            train(small(tmp_path / "run", 5))
    assert not (tmp_path / "run" / "summary.json").exists()
    train(resume=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["iterations"] == 5


@pytest.mark.usefixtures("brief")
def test_seeds_and_repetition(tmp_path, straight):
    """The same seed gives the same run; another one another."""
    assert_same_run(train(small(tmp_path / "again", 15)).folder, straight)
    other = newest_state(train(small(tmp_path / "other", 15, seed=1)).folder)
    weight = "generator.layers.0.op.weight"
    assert not torch.equal(newest_state(straight)[weight], other[weight])


@pytest.fixture
def in_float64(monkeypatch):
    """Engines compute in float64, on the images and latents of float32."""
    build = trainer.build_engine

    def build_double(config, plan):
        if config.run.engine == "fast":
            engine = build(config, plan, dtype=torch.float64)
        else:
            engine = build(config, plan)
            engine.generator.double()
            engine.discriminator.double()
        step = engine.step

        def step_double(batch):
            inputs = (Inputs(drawn.latents.double(), drawn.values) for drawn in batch[1:3])
            return step(Batch(batch.real.double(), *inputs))

        engine.step = step_double
        return engine

    monkeypatch.setattr(trainer, "build_engine", build_double)


@pytest.mark.usefixtures("brief", "in_float64")
def test_engines_may_change_on_the_way(tmp_path):
    """In float64, where the engines' paths part by rounding alone (see TRAJECTORY_64)."""
    run, changed = tmp_path / "run", tmp_path / "changed"
    train(small(run, 10))
    shutil.copytree(run, changed)
    train(small(run, 15), resume=run)
    train(small(changed, 15, engine="reference"), resume=changed)
    expected, moved = newest_state(run), newest_state(changed)
    assert expected.keys() == moved.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            moved[name],
            tensor,
            rtol=TRAJECTORY_64,
            atol=TRAJECTORY_64,
            msg=lambda text, n=name: f"{n}: {text}",
        )
