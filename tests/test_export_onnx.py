"""export --format onnx: onnxruntime draws the images of sample, or there is no file."""

from __future__ import annotations

import builtins
import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from generator_files import exported, randomized

from fastinfogan import load_run
from fastinfogan.cli import main
from fastinfogan.config import preset_config
from fastinfogan.errors import UserError
from fastinfogan.model.networks import Generator
from fastinfogan.results.export import onnx_file
from fastinfogan.results.export.onnx_file import ALLOWED, check_onnx, write_onnx
from fastinfogan.results.generator_file import export_generator, load_generator
from fastinfogan.results.pictures import to_uint8

onnx = pytest.importorskip("onnx", reason="pip install 'fastinfogan[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'fastinfogan[onnx]'")

from fastinfogan.results.export.onnx_graph import IR_VERSION, OPSET, onnx_model  # noqa: E402

pytestmark = pytest.mark.usefixtures("narrow_presets")
LABELS = {"c1_cat10": [*"987654321", None]}


def session_of(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def images_of(trained, latents):
    """Images from 0 to 1."""
    low, high = trained.output_range
    with torch.no_grad():
        return ((trained.generator(latents) - low) / (high - low)).numpy()


def inputs_of(spec, latents):
    """What goes into the model for noise and codes: a category as int64."""
    values = zip(spec.codes, latents.values.unbind(1), strict=True)
    codes = [v.numpy().astype(np.int64 if c.has_categories else np.float32) for c, v in values]
    noise = {"noise": latents.noise.numpy()} if spec.noise else {}
    return {**noise, **{f"c{i}": value for i, value in enumerate(codes, start=1)}}


FAMILIES = ["mnist", "celeba", "svhn", "chairs-rotation", "faces-azimuth", "folder"]


@pytest.mark.parametrize("preset", [*(f"narrow-{name}" for name in FAMILIES), "mnist-mlp"])
def test_onnxruntime_draws_what_sample_draws(tmp_path, preset):
    path, _, config = exported(tmp_path, preset)
    trained, spec = load_generator(path), config.spec
    write_onnx(tmp_path / "codes.onnx", path.read_bytes())
    write_onnx(tmp_path / "latents.onnx", path.read_bytes(), latents=True)
    by_codes, by_latents = (
        session_of(tmp_path / "codes.onnx"),
        session_of(tmp_path / "latents.onnx"),
    )
    for count in (1, 5):
        latents = trained.latents(count, seed=3, fixed={0: 2})
        whole = spec.assemble(*latents)
        expected = images_of(trained, whole)
        assert expected.std() > 0.1  # there is something to compare
        (images,) = by_codes.run(["images"], inputs_of(spec, latents))
        np.testing.assert_allclose(images, expected, rtol=0, atol=ALLOWED)
        pixels = to_uint8(torch.from_numpy(images), (0.0, 1.0)).astype(int)
        assert np.abs(pixels - trained.sample(count, seed=3, fixed={0: 2})).max() <= 1  # rounding
        (images,) = by_latents.run(["images"], {"latents": whole.numpy()})
        np.testing.assert_allclose(images, expected, rtol=0, atol=ALLOWED)


@pytest.mark.parametrize("size", [16, 32, 64, pytest.param(128, marks=pytest.mark.slow)])
def test_every_size_of_a_folders_images(tmp_path, size):
    config = preset_config("folder")
    config = replace(config, data=replace(config.data, image_size=size, channels=3))
    generator = randomized(Generator(config.architecture, config.spec))
    export_generator(tmp_path / "g.safetensors", generator, config, iteration=1)
    content = (tmp_path / "g.safetensors").read_bytes()
    model = onnx_model(content)
    shape = [d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim]
    assert shape == [0, 3, size, size]
    write_onnx(tmp_path / "g.onnx", content)


def of_codes(tmp_path, codes, noise):
    config = preset_config("narrow-mnist")
    config = replace(config, model=replace(config.model, codes=codes, noise=noise))
    path = tmp_path / "g.safetensors"
    generator = randomized(Generator(config.architecture, config.spec))
    export_generator(path, generator, config, iteration=1)
    return path, config.spec


@pytest.mark.parametrize(
    "codes, noise", [("uni,bern,cat3,gauss,cat3", 4), ("cat1024,cat2", 0), ("12xbern", 1)]
)
def test_every_kind_of_code_is_an_input_under_its_name(tmp_path, codes, noise):
    path, spec = of_codes(tmp_path, codes, noise)
    write_onnx(tmp_path / "g.onnx", path.read_bytes())
    session = session_of(tmp_path / "g.onnx")
    expected = [("noise", "tensor(float)", ["batch", noise])] if noise else []
    for i, code in enumerate(spec.codes, start=1):
        kind = "tensor(int64)" if code.has_categories else "tensor(float)"
        expected.append((f"c{i}", kind, ["batch"]))
    assert [(i.name, i.type, i.shape) for i in session.get_inputs()] == expected
    trained = load_generator(path)
    latents = trained.latents(3, seed=1)
    (images,) = session.run(None, inputs_of(spec, latents))
    whole = spec.assemble(*latents)
    np.testing.assert_allclose(images, images_of(trained, whole), rtol=0, atol=ALLOWED)


def test_a_category_that_is_not_there_is_refused(tmp_path):
    path, spec = of_codes(tmp_path, "cat3", 2)
    write_onnx(tmp_path / "g.onnx", path.read_bytes())
    inputs = inputs_of(spec, load_generator(path).latents(2))
    inputs["c1"][1] = 3
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument, match="bounds"):
        session_of(tmp_path / "g.onnx").run(None, inputs)


def test_the_model_says_what_it_is(tmp_path):
    path, _, config = exported(tmp_path, "narrow-mnist", code_to_label=LABELS)
    write_onnx(tmp_path / "g.onnx", path.read_bytes())
    model = onnx.load(tmp_path / "g.onnx")
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    assert (model.ir_version, model.producer_name) == (IR_VERSION, "fastinfogan")
    said = session_of(tmp_path / "g.onnx").get_modelmeta().custom_metadata_map
    header = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])
    header = header["__metadata__"]
    for key in ("latent_spec", "image_shape", "code_to_label", "training_config", "iteration"):
        assert said[key] == header[key]
    assert said["generator_sha256"] == header["sha256"]
    assert json.loads(said["output"]) == {
        "name": "images", "dtype": "float32", "range": [0.0, 1.0],
        "layout": ["batch", "channel", "height", "width"],
    }  # fmt: skip
    noise, first, second, _ = json.loads(said["inputs"])
    assert noise == {
        "name": "noise", "dtype": "float32", "shape": ["batch", config.spec.noise],
        "says": "drawn from N(0, 1)",
    }  # fmt: skip
    assert first == {
        "name": "c1", "dtype": "int64", "shape": ["batch"], "code": "c1_cat10", "categories": 10,
        "labels": LABELS["c1_cat10"],
        "says": "c1_cat10, drawn from Cat(10), equal probabilities; a category, 0 to 9",
    }  # fmt: skip
    assert second["says"] == "c2_uni, drawn from Unif(-1, 1)"
    assert model.graph.input[2].doc_string == second["says"]
    weights = {t.name for t in model.graph.initializer}
    assert {"layers.0.op.weight", "layers.0.norm.running_var"} <= weights


def test_the_same_generator_gives_the_same_bytes(tmp_path):
    path, _, _ = exported(tmp_path, "mnist-mlp")
    for name in "ab":
        write_onnx(tmp_path / name, path.read_bytes())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# -- What is wrong is not written -----------------------------------------------------------------


def altered(change):
    """``onnx_model`` with a fault."""

    def model(content, latents=False):
        made = onnx_model(content, latents)
        change(made)
        return made

    return model


def eps(model):
    node = next(n for n in model.graph.node if n.op_type == "BatchNormalization")
    node.attribute[0].f = 1e-3  # the default of others


def crop(model):
    node = next(n for n in model.graph.node if n.op_type == "ConvTranspose")
    pads = next(a for a in node.attribute if a.name == "pads")
    pads.ints[:] = [2, 2, 1, 1]


def fixed_batch(model):
    """As a tracer does that takes the example's batch for a constant."""
    node = next(n for n in model.graph.node if n.op_type == "Reshape")
    shape = next(t for t in model.graph.initializer if t.name == node.input[1])
    numbers = onnx.numpy_helper.to_array(shape).copy()
    numbers[0] = onnx_file.CHECKED[0]
    shape.CopyFrom(onnx.numpy_helper.from_array(numbers, shape.name))


@pytest.mark.parametrize(
    "change, preset, says",
    [
        (eps, "narrow-chairs-rotation", "images differ from those of sample by"),
        (crop, "narrow-chairs-rotation", "images differ from those of sample by"),
        (fixed_batch, "narrow-mnist", "onnxruntime can't run it"),
    ],
)
@pytest.mark.parametrize("latents", [False, True])
def test_other_images_leave_no_file(tmp_path, monkeypatch, change, preset, says, latents):
    path, _, _ = exported(tmp_path, preset)
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr("fastinfogan.results.export.onnx_graph.onnx_model", altered(change))
    with pytest.raises(UserError, match=says) as refused:
        write_onnx(tmp_path / "g.onnx", path.read_bytes(), latents)
    assert str(refused.value).startswith(f"{tmp_path / 'g.onnx'} is not written: ")
    assert "\n" not in str(refused.value)
    assert sorted(tmp_path.iterdir()) == before


def test_a_failed_check_leaves_the_earlier_file(small_run, tmp_path, monkeypatch, capsys):
    out = tmp_path / "g.onnx"
    assert main(["export", str(small_run), "--format", "onnx", "--output", str(out)]) == 0
    assert capsys.readouterr() == (f"{out}\n", "")
    before = out.read_bytes()
    monkeypatch.setattr(onnx_file, "check_onnx", lambda *_: "it is another's")
    assert main(["export", str(small_run), "--format", "onnx", "--output", str(out)]) == 2
    assert capsys.readouterr().err.endswith("g.onnx is not written: it is another's\n")
    assert out.read_bytes() == before and [*tmp_path.iterdir()] == [out]


def test_a_network_that_rounds_by_more_is_held_to_its_own_rounding(tmp_path, monkeypatch):
    path, _, _ = exported(tmp_path, "narrow-chairs-rotation")
    trained, model = load_generator(path), onnx_model(path.read_bytes()).SerializeToString()
    monkeypatch.setattr(onnx_file, "ALLOWED", 0.0)
    assert check_onnx(model, trained) is None
    with torch.no_grad():  # more than rounding
        trained.generator.layers[-1].op.bias += 1e-4
    assert "differ from those of sample" in check_onnx(model, trained)


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
@pytest.mark.parametrize("asked", ["onnx", "onnx-latents"])
def test_what_is_not_installed_is_named_with_what_has_it(
    small_run, tmp_path, monkeypatch, capsys, missing, asked
):
    true_import = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.split(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named '{missing}'")
        return true_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.delitem(sys.modules, "fastinfogan.results.export.onnx_graph")
    out = tmp_path / "g.onnx"
    assert main(["export", str(small_run), "--format", asked, "--output", str(out)]) == 2
    said = capsys.readouterr().err
    assert said == (
        f"fastinfogan: error: --format {asked}: No module named '{missing}'; "
        "pip install 'fastinfogan[onnx]' has it\n"
    )
    assert not [*tmp_path.iterdir()]


def test_the_command_and_the_function_write_where_they_say(small_run, tmp_path, capsys):
    run = shutil.copytree(small_run, tmp_path / "run")
    for name, format in (("generator.onnx", "onnx"), ("generator_latents.onnx", "onnx-latents")):
        assert main(["export", str(run), "--format", format]) == 0
        assert capsys.readouterr().out == f"{run / name}\n"
        made = (run / name).read_bytes()
        (run / name).unlink()
        assert load_run(run).export(format=format) == run / name
        assert (run / name).read_bytes() == made
