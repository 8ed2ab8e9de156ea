"""generator.safetensors: rebuilt in numpy alone, loaded again, used, refused when damaged."""

from __future__ import annotations

import json
import math
import re
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from tolerances import GENERATOR_FILE

from fastinfogan.config import from_dict, preset_config, to_dict
from fastinfogan.engine.step import FastEngine
from fastinfogan.errors import UserError
from fastinfogan.model.networks import Generator
from fastinfogan.model.reference import Generator as ReferenceGenerator
from fastinfogan.plan import Plan
from fastinfogan.results.generator import TrainedGenerator
from fastinfogan.results.generator_file import export_generator, load_generator
from fastinfogan.results.pictures import tile, to_uint8, traversal
from fastinfogan.results.run import open_generator
from fastinfogan.training.checkpoint import Progress, save_checkpoint

ROOT = Path(__file__).resolve().parent.parent


def randomized(generator, seed=0):
    """Weights that carry a signal to the output, and running statistics that matter, eval mode."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in generator.state_dict().items():
            if name.endswith("op.weight"):
                # He et al. 2015; an upconv of stride s adds up 16 / s^2 taps of each input channel.
                fan_in = tensor.shape[1] if tensor.dim() == 2 else tensor.shape[0] * 4
                tensor.normal_(0.0, math.sqrt(2.0 / fan_in), generator=random)
            elif name.endswith(("norm.weight", "running_var")):
                tensor.uniform_(0.5, 2.0, generator=random)
            elif name.endswith(("bias", "running_mean")):
                tensor.normal_(0.0, 0.3, generator=random)
    return generator.eval()


def exported(tmp_path, preset, kind=None, **options):
    """A file of a preset, and the generator and configuration behind it."""
    config = preset_config(preset)
    if kind is None:
        generator = Generator(config.architecture, config.spec)
    else:
        generator = kind(config)
    path = tmp_path / "generator.safetensors"
    export_generator(path, randomized(generator), config, iteration=7, **options)
    return path, generator, config


# -- A stranger's view: numpy and the documentation --------------------------------------------


def rebuild_in_numpy(path, latents):
    """Images of ``latents``, from the file's bytes; follows docs/generator-format.md."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    data = raw[8 + length :]

    def tensor(name):
        entry = header[name]
        begin, end = entry["data_offsets"]
        assert entry["dtype"] == "F32"
        return np.frombuffer(data[begin:end], "<f4").reshape(entry["shape"])

    x = latents
    for layer in json.loads(header["__metadata__"]["architecture"]):
        weight = tensor(layer["name"] + ".op.weight")
        if layer["kind"] == "fc":
            x = x @ weight.T
        else:
            batch, _, height, width = x.shape
            k, s = layer["kernel"], layer["stride"]
            full = np.zeros(
                (batch, weight.shape[1], (height - 1) * s + k, (width - 1) * s + k), np.float32
            )
            for i in range(k):
                for j in range(k):
                    full[:, :, i : i + height * s : s, j : j + width * s : s] += np.einsum(
                        "bihw,io->bohw", x, weight[:, :, i, j], optimize=True
                    )
            before, after = layer["padding"]
            x = full[:, :, before : full.shape[2] - after, before : full.shape[3] - after]
        column = (1, -1) + (1,) * (x.ndim - 2)
        if layer["bias"]:
            x = x + tensor(layer["name"] + ".op.bias").reshape(column)
        if layer["norm"]:
            gamma, beta, mean, var = (
                tensor(f"{layer['name']}.norm.{name}").reshape(column)
                for name in ("weight", "bias", "running_mean", "running_var")
            )
            x = (x - mean) / np.sqrt(var + layer["norm"]["eps"]) * gamma + beta
        activation = layer["activation"]
        if activation["kind"] in ("relu", "lrelu"):
            x = np.where(x > 0, x, activation["slope"] * x)
        elif activation["kind"] == "sigmoid":
            x = 1.0 / (1.0 + np.exp(-x))
        elif activation["kind"] == "tanh":
            x = np.tanh(x)
        if "reshape" in layer:
            shape = layer["reshape"]
            x = x.reshape(-1, shape["height"], shape["width"], shape["channels"])
            x = x.transpose(0, 3, 1, 2)
        assert list(x.shape[1:]) == layer["outputs"] or "reshape" in layer
    return x


# Batchnorm and bias, upconv of stride 2; stride 1; tanh and colour; no batchnorm, no upconv.
@pytest.mark.parametrize("preset", ["mnist", "chairs-rotation", "svhn", "mnist-mlp"])
def test_numpy_rebuilds_the_generator_from_the_file_alone(tmp_path, preset):
    path, generator, config = exported(tmp_path, preset)
    latents = config.spec.assemble(*config.spec.sample(2, seed=0, offset=0))
    with torch.no_grad():
        images = generator(latents).numpy()
    assert images.std() > 0.1  # there is something to compare
    rebuilt = rebuild_in_numpy(path, latents.numpy())
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


# -- Loading ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, ReferenceGenerator])
@pytest.mark.parametrize("preset", ["mnist", "svhn"])
def test_load_gives_back_the_generator(tmp_path, preset, kind):
    labels = {"c1_cat10": [*"0123456789"]}
    path, generator, config = exported(tmp_path, preset, kind, code_to_label=labels)
    loaded = load_generator(path)
    assert not loaded.generator.training
    assert loaded.spec.names == config.spec.names
    assert loaded.spec == config.spec
    assert loaded.output_range == config.architecture.output_range
    assert loaded.code_to_label == labels
    assert from_dict(loaded.config) == config
    latents = config.spec.assemble(*config.spec.sample(3, seed=0, offset=0))
    with torch.no_grad():
        torch.testing.assert_close(
            loaded.generator(latents), generator(latents), rtol=0, atol=GENERATOR_FILE
        )


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The tensors and the header of a small file."""
    path, _, _ = exported(
        tmp_path_factory.mktemp("small"), "mnist-mlp", code_to_label={"c1_cat10": [*"0123456789"]}
    )
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


def without(key):
    def damage(tensors, header):
        (header if key in header else tensors).pop(key)

    return damage


def edited(key, old, new):
    def damage(tensors, header):
        assert old in header[key]
        header[key] = header[key].replace(old, new, 1)

    return damage


def cut(tensors, header):
    tensors["layers.0.op.weight"] = tensors["layers.0.op.weight"][:, 1:].contiguous()


def halved(tensors, header):
    tensors["layers.1.op.bias"] = tensors["layers.1.op.bias"].half()


def extra(tensors, header):
    tensors["layers.2.op.bias"] = torch.zeros(1)


@pytest.mark.parametrize(
    "damage, says",
    [
        (edited("format_version", "1", "2"), "format_version 2, not 1"),
        (without("format_version"), "no 'format_version'"),
        (without("latent_spec"), "no 'latent_spec'"),
        (without("training_config"), "no 'training_config'"),
        (edited("architecture", "[", ""), "Extra data|Expecting"),
        (edited("architecture", '"slope": 0.0', '"slope": 0.2'), "architecture can't be built"),
        (edited("architecture", '"kind": "fc"', '"kind": "attention"'), "can't be built|unpack"),
        (edited("architecture", '["height", "width", "channel"]', '["channel"]'), "architecture"),
        (edited("architecture", '"outputs": [256]', '"outputs": 256'), "subscriptable"),
        (edited("latent_spec", "equal", "skewed"), "latent_spec can't be built"),
        (edited("latent_spec", '"cat10"', '"dog10"'), "'dog10' is not a code"),
        (edited("image_shape", "28", "29"), "image_shape can't be built"),
        (edited("output_range", "0.0", "-1.0"), "output_range can't be built"),
        (edited("code_to_label", '"0", ', ""), "code_to_label doesn't fit"),
        (edited("code_to_label", "c1", "c2"), "code_to_label doesn't fit"),
        (without("layers.1.op.bias"), "tensor layers.1.op.bias is missing"),
        (extra, "tensor layers.2.op.bias is unexpected"),
        (cut, r"layers.0.op.weight is torch.float32 \(256, 25\), not torch.float32 \(256, 26\)"),
        (halved, "layers.1.op.bias is torch.float16"),
    ],
)
def test_a_file_that_cannot_be_built_is_refused_in_one_line(tmp_path, small, damage, says):
    tensors, header = (dict(part) for part in small)
    damage(tensors, header)
    path = tmp_path / "g.safetensors"
    save_file(tensors, path, header)
    with pytest.raises(UserError, match=says) as refused:
        load_generator(path)
    assert str(refused.value).startswith(f"{path} is no generator file")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_file_is_refused(tmp_path, keep):
    path, _, _ = exported(tmp_path, "mnist-mlp")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="is no generator file"):
        load_generator(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        load_generator(tmp_path / "missing.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="no 'format_version'"):
        load_generator(tmp_path / "other.safetensors")


# -- Using it --------------------------------------------------------------------------------


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
    trained.save_pictures(tmp_path / "pictures", "_7")
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
    save_checkpoint(run / "checkpoints", engine, torch.zeros(3), progress)
    for source in (path, run):
        opened = open_generator(source)
        with torch.no_grad():
            assert torch.equal(opened.generator(latents), generator(latents))
        assert opened.code_to_label == {}
        assert from_dict(opened.config) == config
    labels = {"c1_cat10": [*"0123456789"]}
    for iterations, known in ((3, labels), (2, {})):  # a summary of earlier weights says nothing
        summary = {"iterations": iterations, "evaluation": {"code_to_label": labels}}
        (run / "summary.json").write_text(json.dumps(summary))
        assert open_generator(run).code_to_label == known
    with pytest.raises(UserError, match="no run directory"):
        open_generator(tmp_path)


# -- The example -----------------------------------------------------------------------------


def test_the_example_samples_without_the_package(tmp_path):
    script = ROOT / "examples" / "load_generator.py"
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
