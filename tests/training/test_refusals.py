"""What training refuses before it begins, or before it goes on with a run."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
from PIL import Image
from training_runs import small

from fastinfogan.config import DataConfig
from fastinfogan.errors import UserError
from fastinfogan.results.run import load_run
from fastinfogan.training.trainer import train


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
    config = small(finished.folder, 20, dataset="digits")
    config = replace(config, **{part: replace(getattr(config, part), **change)})
    with pytest.raises(UserError, match=says):
        train(config, resume=finished.folder)


def test_other_images_are_refused(tmp_path, brief):
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
    with pytest.raises(UserError, match="--resume .*the run is finished, with 12 iterations"):
        train(resume=finished.folder)


def test_out_that_cannot_be_made_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out"):
        train(small(tmp_path / "file" / "run", 5))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="--out .*taken exists already"):
        train(small(tmp_path / "taken", 5))
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        with pytest.raises(UserError, match="--out"):
            train(small(tmp_path / "run", 5))


def test_resuming_with_another_out_is_refused(finished, tmp_path):
    config = small(tmp_path / "other", 20, dataset="digits")
    with pytest.raises(UserError, match="--out .*other: .* stays in"):
        train(config, resume=finished.folder)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("model", "noise", None),
        ("model", "preset", "mnits"),
        ("optim", "lr_g", -1.0),
        ("optim", "lr_d", 10**400),
    ],
)
def test_a_config_that_is_not_a_runs_is_refused(copy, part, field, value):
    path = copy / "config.json"
    tree = json.loads(path.read_text())
    tree[part][field] = value
    path.write_text(json.dumps(tree))
    for use in (lambda: train(resume=copy), lambda: load_run(copy)):
        with pytest.raises(UserError) as refused:
            use()
        assert "config.json" in str(refused.value) and "\n" not in str(refused.value)
