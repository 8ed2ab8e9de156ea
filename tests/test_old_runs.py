"""Runs from before --consistency, --augment, --average, ...: they go on, or are refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from training_runs import finish_briefly

from fastinfogan.cli import main, parse
from fastinfogan.config import (
    PRESETS,
    DataConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrainConfig,
    from_dict,
    preset_config,
    resolve,
)
from fastinfogan.config.jitter import COLOUR
from fastinfogan.errors import UserError
from fastinfogan.model.weights import restore_weights
from fastinfogan.results.run import images_of, load_run
from fastinfogan.results.run_config import read_config
from fastinfogan.training.trainer import train

pytestmark = pytest.mark.usefixtures("narrow_presets")

# As version 0.1 wrote it, and the fingerprint in its checkpoints.
OLD = """{
  "data": {
    "dataset": "digits", "data_dir": null, "image_size": null, "channels": null, "allow_bad": false
  },
  "model": {"preset": "mnist-mlp", "codes": "cat10", "noise": 16, "separate_q": true},
  "optim": {
    "objective": "infogan", "update": "alternating", "iterations": 4, "batch_size": 16,
    "lr_d": 0.001, "lr_g": 0.001, "lambda_disc": 1.0, "lambda_cont": 1.0, "beta1": 0.5,
    "beta2": 0.999
  },
  "run": {
    "out": "run", "seed": 0, "device": "cpu", "resident": "auto", "engine": "fast", "amp": false,
    "amp_dtype": "auto", "compile": null, "cuda_graphs": null, "profile": false, "log_every": 2,
    "sample_every": 0, "checkpoint_every": 2
  }
}"""
FINGERPRINT = "57d46047d54001b36d2b977950e7460430c4161ed128bc941d24219bb546f65b"


def test_an_old_config_json_means_what_it_meant(tmp_path):
    (tmp_path / "config.json").write_text(OLD)
    config = read_config(tmp_path)
    optim = config.optim
    assert (optim.consistency, optim.augment, optim.average) == (0.0, False, 0)
    assert config.optim.jitter == preset_config("mnist-mlp").optim.jitter
    assert config == resolve(config)
    assert config.fingerprint() == FINGERPRINT


def test_the_fingerprint_counts_them_where_one_is_on():
    tree = json.loads(OLD)
    tree["run"]["evaluate_every"] = 0
    seen = {FINGERPRINT}
    for consistency, augment, jitter in (
        (0.5, False, "shift=0.1"), (0.0, True, "shift=0.1"), (0.0, True, "shift=0.2"),
        (1.0, True, "shift=0.2"),
    ):  # fmt: skip
        new = {"consistency": consistency, "augment": augment, "jitter": jitter}
        for average in ({}, {"average": 0}, {"average": 100}):
            optim = {**tree["optim"], **new, **average}
            seen.add(from_dict({**tree, "optim": optim}).fingerprint())
    assert len(seen) == 1 + 2 * 4
    for contrastive, gap_until in ((1.0, 0), (1.0, 5), (0.0, 5)):  # the last decides nothing
        new = {"contrastive": contrastive, "gap_until": gap_until}
        seen.add(from_dict({**tree, "optim": {**tree["optim"], **new}}).fingerprint())
    assert len(seen) == 1 + 2 * 4 + 2
    off = {"consistency": 0.0, "augment": False, "jitter": "shift=0.2"}  # decides nothing
    assert from_dict({**tree, "optim": {**tree["optim"], **off}}).fingerprint() == FINGERPRINT


def test_a_gap_without_pairs_was_taken_and_is_none(tmp_path):
    tree = json.loads(OLD)
    tree["optim"] |= {"contrastive": 0.0, "gap_until": 5}
    (tmp_path / "config.json").write_text(json.dumps(tree))
    config = read_config(tmp_path)
    assert config.optim.gap_until == 0 and config.fingerprint() == FINGERPRINT
    tree["optim"]["gap_until"] = "5"
    with pytest.raises(UserError, match="gap_until is '5'"):
        from_dict(tree)


def test_the_jitter_is_the_preset_s():
    tree = json.loads(OLD)
    tree["model"]["preset"] = "svhn"
    assert from_dict(tree).optim.jitter == COLOUR


@pytest.mark.parametrize("kept", ["consistency", "augment", "jitter"])
def test_a_config_that_has_some_of_the_fields_is_refused(kept):
    tree = json.loads(OLD)
    tree["optim"][kept] = {"consistency": 0.0, "augment": False, "jitter": ""}[kept]
    missing = {"consistency", "augment", "jitter"} - {kept}
    with pytest.raises(UserError) as caught:
        from_dict(tree)
    assert all(name in str(caught.value) for name in missing)


def test_networks_from_before_they_were_built_for_a_size_are_refused():
    tree = json.loads(OLD)
    tree["data"]["dataset"], tree["model"]["preset"] = "sprites", "sprites"
    with pytest.raises(
        UserError, match="from before preset sprites was built for the images' size"
    ):
        from_dict(tree)
    tree["model"]["preset"] = "infogan-cr"  # has the size that it had
    assert images_of(from_dict(tree), "train").image_shape == (1, 64, 64)


def test_a_run_of_a_d_that_is_scaled_otherwise_is_refused(tmp_path, monkeypatch):
    """Its weights would fit; what D makes of an image would be another thing."""
    finish_briefly(monkeypatch)
    run = RunConfig(out=tmp_path / "run", device="cpu", sample_every=0)
    model, optim = ModelConfig("narrow-sprites"), OptimConfig(iterations=1, batch_size=8)
    folder = train(TrainConfig(DataConfig("sprites"), model, optim, run)).folder
    assert load_run(folder).iteration == 1
    preset = PRESETS["narrow-sprites"]
    stronger = replace(preset.architecture, spectral=2 * preset.architecture.spectral)
    monkeypatch.setitem(PRESETS, "narrow-sprites", replace(preset, architecture=stronger))
    for go_on in (load_run, lambda folder: train(None, folder)):
        with pytest.raises(UserError, match="or of a version that scaled D's weights otherwise"):
            go_on(folder)


def test_weights_of_another_shape_are_refused_by_name():
    state = {"net.weight": torch.zeros(3, 2), "net.bias": torch.zeros(4)}
    with pytest.raises(UserError, match="the checkpoint doesn't fit: bias$"):
        restore_weights(torch.nn.Linear(2, 3), state, "net.")
    with pytest.raises(UserError, match="the checkpoint doesn't fit: bias, scale$"):
        state = {"net.weight": torch.zeros(3, 2), "net.scale": torch.zeros(1)}
        restore_weights(torch.nn.Linear(2, 3), state, "net.")


@pytest.mark.parametrize("part", ["optim", "model"])
@pytest.mark.parametrize("value", [None, 3, [], "x"])
def test_a_damaged_config_is_refused_all_the_same(part, value):
    tree = json.loads(OLD)
    tree[part] = value
    with pytest.raises(UserError, match="missing or unknown"):
        from_dict(tree)


@pytest.fixture
def old_run(small_run, tmp_path):
    """A run as an earlier version left it."""
    folder = shutil.copytree(small_run, tmp_path / "run")
    path = folder / "config.json"
    tree = json.loads(path.read_text())
    for name in ("consistency", "augment", "jitter", "average", "contrastive", "gap_until"):
        del tree["optim"][name]
    del tree["run"]["evaluate_every"]
    tree["run"]["compile"] = None  # it was up to the run's length
    path.write_text(json.dumps(tree))
    return folder


def test_an_old_run_is_loaded_and_goes_on(old_run, capsys):
    assert load_run(old_run).iteration == 6
    assert main(["train", "--resume", str(old_run), "--iterations", "8"]) == 0
    run = load_run(old_run)
    assert run.iteration == 8 and run.config.optim.consistency == 0.0
    assert run.config.run.compile is False


def test_an_old_run_does_not_take_up_what_is_new(old_run, capsys):
    command = parse(["train", "--resume", str(old_run)])
    optim = command.optim
    assert (optim.consistency, optim.augment, optim.average) == (0.0, False, 0)
    for flag in (
        ["--consistency", "1"], ["--augment"], ["--average", "100"], ["--contrastive", "1"],
    ):  # fmt: skip
        assert main(["train", "--resume", str(old_run), "--iterations", "8", *flag]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and f"{flag[0]} " in err and "start a new run" in err
