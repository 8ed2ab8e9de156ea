"""A trained generator in use: codes set by hand, samples, traversals, pictures; runs and files."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from generator_files import exported, randomized
from PIL import Image

from fastinfogan.config import from_dict, preset_config, to_dict
from fastinfogan.engine.step import FastEngine
from fastinfogan.errors import UserError
from fastinfogan.model.networks import Generator
from fastinfogan.plan import Plan
from fastinfogan.results.generator import TrainedGenerator
from fastinfogan.results.grid import save_pngs, tile
from fastinfogan.results.pictures import to_uint8, traversal
from fastinfogan.results.run import open_generator
from fastinfogan.training.checkpoint import Progress, engine_state, save_checkpoint


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A generator without batchnorm, and codes of several kinds; label k is category 9 - k."""
    config = preset_config("mnist-mlp")
    config = replace(config, model=replace(config.model, codes="cat10,uni,bern"))
    generator = randomized(Generator(config.architecture, config.spec))
    return TrainedGenerator(
        generator, config.spec, (0.0, 1.0), code_to_label={"c1_cat10": [*"9876543210"]}
    )


def test_samples_are_those_of_the_seed_with_codes_set_by_hand(trained):
    noise, values = trained.spec.sample(4, 3, 0)
    values[:, 0] = 6
    with torch.no_grad():
        images = trained.generator(trained.spec.assemble(noise, values))
    np.testing.assert_array_equal(
        trained.sample(4, seed=3, fixed={0: 6}), to_uint8(images, (0.0, 1.0))
    )


def test_codes_are_parsed_by_short_and_full_name(trained):
    assert trained.parse_codes("c1=3, c2_uni = -1.5") == {0: 3.0, 1: -1.5}
    assert trained.parse_codes("") == {}
    assert trained.code_index("c3", "--code") == 2


@pytest.mark.parametrize(
    "text, says",
    [
        ("c1", "--set 'c1': write CODE=NUMBER"),
        ("c1=three", "--set 'c1=three': write"),
        ("c4=1", "--set 'c4': no such code; there are c1_cat10, c2_uni, c3_bern"),
        ("c1=1,c1_cat10=2", "sets c1_cat10 twice"),
    ],
)
def test_codes_that_cannot_be_parsed(trained, text, says):
    with pytest.raises(UserError, match=says):
        trained.parse_codes(text)


def test_a_code_set_to_a_text_is_refused(trained):
    for draw in (partial(trained.sample, 5), partial(trained.traverse, "c3")):
        with pytest.raises(UserError, match="^--set c2_uni='0.5': a number works"):
            draw(fixed={"c2": "0.5"})


def test_samples_as_arrays_and_as_a_picture(trained, tmp_path):
    trained.save_samples(tmp_path / "s.npz", 5, seed=2, fixed={1: 0.5})
    with np.load(tmp_path / "s.npz") as arrays:
        np.testing.assert_array_equal(arrays["images"], trained.sample(5, seed=2, fixed={1: 0.5}))
        noise, values = trained.latents(5, seed=2, fixed={1: 0.5})
        np.testing.assert_array_equal(arrays["noise"], noise)
        np.testing.assert_array_equal(arrays["values"], values)
        assert (arrays["values"][:, 1] == 0.5).all()
    trained.save_samples(tmp_path / "s.png", 20)
    with Image.open(tmp_path / "s.png") as file:
        picture = np.asarray(file)
    grid = tile(trained.sample(20), columns=16).repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(picture[-grid.shape[0] :], grid[:, :, 0])
    with pytest.raises(UserError, match=r"--output .*s\.jpg: names ending in \.png and \.npz"):
        trained.save_samples(tmp_path / "s.jpg")


def test_traversals_follow_the_labels(trained):
    """Label k is category 9 - k, so columns, or the rows of another code, run backwards."""
    for code in (0, 1):
        order = list(range(9, -1, -1))
        grid = traversal(
            trained.generator, trained.spec, code, output_range=(0.0, 1.0), order=order
        )
        grid = grid.repeat(2, axis=0).repeat(2, axis=1)
        picture = trained.traverse(code)
        np.testing.assert_array_equal(picture[-grid.shape[0] :, : grid.shape[1]], grid)
    unlabelled = replace(trained, code_to_label={})
    assert not np.array_equal(unlabelled.traverse(1), trained.traverse(1))
    assert unlabelled.traverse(0).shape[0] < trained.traverse(0).shape[0]  # a line less


def test_pictures_of_every_code(trained, tmp_path):
    save_pngs(tmp_path / "pictures", trained.pictures(), "_7")
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [
        "samples_7.png", "traversal_c1_cat10_7.png", "traversal_c2_uni_7.png",
        "traversal_c3_bern_7.png",
    ]  # fmt: skip


def test_open_takes_a_file_or_a_run_directory(tmp_path):
    path, generator, config = exported(tmp_path, "mnist-mlp")
    latents = config.spec.assemble(*config.spec.sample(2, seed=0, offset=0))
    engine = FastEngine(config, Plan(torch.device("cpu")))
    engine.generator.load_state_dict(generator.state_dict())
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(json.dumps(to_dict(config)))
    progress = Progress(3, 0, 0, 0, 0, 0.0, config.fingerprint(), "")
    save_checkpoint(run / "checkpoints", engine_state(engine), progress)
    for source in (path, run):
        opened = open_generator(source)
        with torch.no_grad():
            assert torch.equal(opened.generator(latents), generator(latents))
        assert opened.code_to_label == {}
        assert from_dict(opened.config) == config
    labels = {"c1_cat10": [*"0123456789"]}
    for iterations, known in ((3, labels), (2, {})):  # a summary of earlier weights says nothing
        found = {"codes": [], "clusterings": [], "totals": {"mi": 0.0}, "code_to_label": labels}
        summary = {
            "iterations": iterations, "seconds": 1.0, "last_metrics": None, "evaluation": found,
            "device": "the CPU", "versions": {},
        }  # fmt: skip
        (run / "summary.json").write_text(json.dumps(summary))
        assert open_generator(run).code_to_label == known
    with pytest.raises(UserError, match="no run directory"):
        open_generator(tmp_path)
