"""generator.safetensors: what is in the file, and a stranger who rebuilds the generator from it."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from generator_files import exported
from PIL import Image
from safetensors import safe_open
from tolerances import GENERATOR_FILE

from examples import EXAMPLES, example
from fastinfogan.config import from_dict, preset_config
from fastinfogan.model.networks import Generator
from fastinfogan.results.generator_file import export_generator, load_generator
from fastinfogan.results.pictures import to_uint8

ROOT = Path(__file__).resolve().parent.parent


# Batchnorm and bias, upconv of stride 2; stride 1; tanh and colour; no batchnorm, no upconv.
@pytest.mark.parametrize("preset", ["mnist", "chairs-rotation", "svhn", "mnist-mlp"])
def test_numpy_rebuilds_the_generator_from_the_file_alone(tmp_path, preset):
    path, generator, config = exported(tmp_path, preset)
    latents = config.spec.assemble(*config.spec.sample(2, seed=0, offset=0))
    with torch.no_grad():
        images = generator(latents).numpy()
    assert images.std() > 0.1  # there is something to compare
    numpy = example("load_generator_numpy")
    tensors, header = numpy.read(path)
    rebuilt = numpy.generate(latents.numpy(), header["architecture"], tensors)
    assert rebuilt.shape == (2, *config.architecture.image_shape)
    np.testing.assert_allclose(rebuilt, images, rtol=0, atol=GENERATOR_FILE)


def test_the_header_describes_the_input_vector(tmp_path):
    path, _, _ = exported(tmp_path, "svhn")
    with safe_open(path, "np") as file:
        latents = json.loads(file.metadata()["latent_spec"])
    assert latents["width"] == 168
    assert latents["noise"] == {"offset": 0, "width": 124, "prior": "N(0, 1)"}
    first, last = latents["codes"][0], latents["codes"][-1]
    assert first == {
        "name": "c1_cat10",
        "kind": "categorical",
        "offset": 124,
        "width": 10,
        "encoding": "one-hot",
        "prior": "Cat(10), equal probabilities",
        "entropy": math.log(10),
    }
    assert (last["name"], last["offset"], last["encoding"]) == ("c8_uni", 167, "value")
    assert last["prior"] == "Unif(-1, 1)"


def test_tensors_and_header_are_those_of_the_documentation(tmp_path):
    path, _, config = exported(tmp_path, "mnist", code_to_label={"c1_cat10": ["3", None] * 5})
    with safe_open(path, "np") as file:
        assert sorted(file.keys()) == sorted(
            [f"layers.{i}.op.weight" for i in range(4)]
            + ["layers.3.op.bias"]
            + [
                f"layers.{i}.norm.{name}"
                for i in range(3)
                for name in ("weight", "bias", "running_mean", "running_var")
            ]
        )
        metadata = file.metadata()
    assert metadata["format_version"] == "1"
    assert metadata["iteration"] == "7"
    assert metadata["config_sha256"] == config.fingerprint()
    assert json.loads(metadata["image_shape"]) == [1, 28, 28]
    assert json.loads(metadata["output_range"]) == [0.0, 1.0]
    assert json.loads(metadata["code_to_label"]) == {"c1_cat10": ["3", None] * 5}
    page = (ROOT / "docs" / "generator-format.md").read_text()
    words = set(metadata) | {
        key
        for name in ("architecture", "latent_spec")
        for item in (json.loads(metadata[name]),)
        for row in (item if isinstance(item, list) else [item, *item["codes"]])
        for key in row
    }
    assert {word for word in words if f"`{word}`" not in page} == set()


def test_the_file_keeps_the_users_paths_to_itself(tmp_path):
    config = preset_config("mnist")
    config = replace(
        config,
        data=replace(config.data, data_dir=Path("/home/someone/secret")),
        run=replace(config.run, out=Path("/home/someone/private")),
    )
    path = tmp_path / "g.safetensors"
    generator = Generator(config.architecture, config.spec)
    export_generator(path, generator, config, iteration=0)
    assert b"someone" not in path.read_bytes()
    stored = from_dict(load_generator(path).config)
    assert stored.fingerprint() == config.fingerprint()


def test_the_same_generator_gives_the_same_bytes(tmp_path):
    path, generator, config = exported(tmp_path, "mnist-mlp")
    again = tmp_path / "again.safetensors"
    export_generator(again, generator, config, iteration=7)
    assert again.read_bytes() == path.read_bytes()


# -- The example -----------------------------------------------------------------------------


def test_the_example_samples_without_the_package(tmp_path):
    script = EXAMPLES / "load_generator.py"
    assert not re.search(r"^\s*(import|from) fastinfogan", script.read_text(), re.MULTILINE)
    path, generator, config = exported(
        tmp_path, "mnist", code_to_label={"c1_cat10": [*"abcdefghij"]}
    )
    out = tmp_path / "samples.png"
    finished = subprocess.run(
        [sys.executable, script, path, "--category", "5", "--seed", "1", "--out", out],
        check=True,
        capture_output=True,
        text=True,
    )
    assert finished.stdout == "category 5 shows f\n"
    with Image.open(out) as file:
        picture = np.asarray(file).astype(int)
    # The same draws: noise first, then a uniform number per code.
    random = torch.Generator().manual_seed(1)
    noise = torch.randn(64, 62, generator=random)
    values = torch.rand(64, 3, generator=random) * 2 - 1
    values[:, 0] = 5
    with torch.no_grad():
        images = to_uint8(generator(config.spec.assemble(noise, values)), (0.0, 1.0))
    expected = images.reshape(8, 8, 28, 28).swapaxes(1, 2).reshape(224, 224)
    assert expected.std() > 25
    assert np.abs(picture - expected).max() <= 1  # rounding
