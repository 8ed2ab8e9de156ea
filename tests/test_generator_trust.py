"""A generator file from a stranger: every word known, every number sound, every bit as written."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import struct

import numpy as np
import pytest
import torch
from generator_files import exported
from memory import memory_below
from safetensors import safe_open
from safetensors.torch import save_file
from user_errors import error_of

from fastinfogan.config import preset_config
from fastinfogan.errors import UserError
from fastinfogan.model.networks import Generator
from fastinfogan.results.generator_file import MAX_BYTES, export_generator, load_generator

LABELS = {"c1_cat10": [*"012345678", None]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small file with its digest: path, tensors, header."""
    path, _, _ = exported(tmp_path_factory.mktemp("whole"), "mnist-mlp", code_to_label=LABELS)
    with safe_open(path, "pt") as file:
        return path, {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


def refused(tmp_path, tensors, header, digest: bool = False) -> str:
    """Why a file of these is refused; as written before there was a digest, unless it is kept."""
    path = tmp_path / "g.safetensors"
    save_file(tensors, path, {k: v for k, v in header.items() if digest or k != "sha256"})
    message = error_of(load_generator, path)
    assert message.startswith(f"{path} is no generator file") and message.isprintable()
    assert len(message) < 700 + len(str(path))
    return message


def test_an_older_file_without_a_digest_loads(tmp_path, whole):
    _, tensors, header = whole
    save_file(tensors, tmp_path / "g", {k: v for k, v in header.items() if k != "sha256"})
    assert load_generator(tmp_path / "g").code_to_label == LABELS


def test_saved_again_by_another_program_it_is_the_same_file(tmp_path, whole):
    _, tensors, header = whole
    save_file(dict(reversed(tensors.items())), tmp_path / "g", {"later": "x", **header})
    assert "damaged" in error_of(load_generator, tmp_path / "g")  # the digest counts every key
    save_file(dict(reversed(tensors.items())), tmp_path / "g", dict(reversed(header.items())))
    assert load_generator(tmp_path / "g").code_to_label == LABELS


def test_every_flipped_bit_is_noticed(tmp_path, whole):
    """Wherever it is: in the length, the header, its names, the digest, a weight."""
    content = whole[0].read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    digest = content.index(b'"sha256"')
    draw = random.Random(0)
    bits = [*range(64), *(8 * digest + bit for bit in range(0, 8 * 78, 9))]
    bits += [draw.randrange(64, 8 * (8 + size)) for _ in range(60)]
    bits += [draw.randrange(8 * (8 + size), 8 * len(content)) for _ in range(60)]
    path = tmp_path / "flipped.safetensors"
    for bit in bits:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(UserError, match="is no generator file"):
            load_generator(path)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_no_numbers_are_neither_read_nor_written(tmp_path, whole, value):
    _, tensors, header = whole
    damaged = {name: tensor.clone() for name, tensor in tensors.items()}
    damaged["layers.1.op.bias"][7] = value
    reason = "tensor layers.1.op.bias holds NaN or infinite values"
    assert reason in refused(tmp_path, damaged, header)
    config = preset_config("mnist-mlp")
    generator = Generator(config.architecture, config.spec)
    generator.load_state_dict(damaged)
    out = tmp_path / "out.safetensors"
    assert reason in error_of(export_generator, out, generator, config, iteration=1)
    assert not out.exists()


def test_weights_that_make_no_image_are_refused(tmp_path, whole):
    _, tensors, header = whole
    damaged = {name: tensor.clone() for name, tensor in tensors.items()}
    damaged["layers.0.op.weight"][:] = 3e38
    damaged["layers.1.op.weight"][0, :2] = torch.tensor([3e38, -3e38])
    assert "an image holds NaN" in refused(tmp_path, damaged, header)


def test_variances_below_zero_are_refused(tmp_path):
    path, _, _ = exported(tmp_path, "mnist")
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        header = file.metadata()
    tensors["layers.0.norm.running_var"][3] = -0.5
    assert "layers.0.norm.running_var holds variances below 0" in refused(tmp_path, tensors, header)


def test_every_word_of_the_description_is_known_or_refused(tmp_path, whole):
    _, tensors, header = whole

    def says(key, change, expected) -> None:
        value = json.loads(header[key])
        changed = change(value)
        text = json.dumps(value if changed is None else changed)
        assert expected in refused(tmp_path, tensors, {**header, key: text}), text

    def layer(number, **words):
        return lambda layers: layers[number].update(words)

    for number, words, expected in (
        (0, {"activation": {"kind": "swish"}}, 'the activation "swish" is unknown; relu, lrelu'),
        (1, {"activation": {"kind": "softmax"}}, 'the activation "softmax"'),
        (0, {"activation": {"kind": ["tanh"]}}, 'the activation ["tanh"]'),
        (0, {"activation": {"kind": "relu", "slope": False}}, "architecture can't be built"),
        (0, {"activation": {"kind": "relu", "slope": 0}}, "architecture can't be built"),
        (0, {"kind": "conv"}, 'the kind "conv" is unknown; fc, upconv'),
        (0, {"kind": "upconv"}, "an upconv needs a map before it"),
        (0, {"outputs": [256.0]}, "no whole number"),
        (0, {"outputs": [True]}, "no whole number"),
        (0, {"outputs": [-256]}, "no whole number"),
        (0, {"outputs": [256, 1]}, "architecture can't be built"),
        (0, {"bias": 1}, "architecture can't be built"),
        (0, {"dropout": 0.5}, "architecture can't be built"),
        (0, {"norm": {"kind": "layernorm", "eps": 1e-5}}, "architecture can't be built"),
        (0, {"stride": 3}, "the stride 3 is unknown"),
        (0, {"stride": True}, "the stride true is unknown"),
        (1, {"reshape": {"channels": 1, "height": 28, "width": 27}}, "reshape doesn't fit"),
        (0, {"name": "layers.1"}, "architecture can't be built"),
    ):
        says("architecture", layer(number, **words), expected)
    says("architecture", lambda layers: [], "has 0 layers")
    says("architecture", lambda layers: layers * 100, "has 200 layers")
    says("architecture", lambda layers: layers[:1], "doesn't end in an image")
    says("architecture", lambda layers: {"0": layers[0]}, "is no list")
    says("architecture", lambda layers: [7], "a layer is no object")
    says("latent_spec", lambda spec: spec["noise"].update(width=True), "latent_spec can't")
    says("latent_spec", lambda spec: spec["noise"].update(prior="U"), "latent_spec can't")
    says("latent_spec", lambda spec: spec["codes"][0].update(kind="x"), "latent_spec can't")
    says("latent_spec", lambda spec: spec.update(specification=7), "latent_spec can't")
    says("latent_spec", lambda spec: spec.update(correlated=True), "latent_spec can't")
    says("image_shape", lambda shape: [True, 28, 28], "image_shape can't")
    says("image_shape", lambda shape: [1.0, 28, 28], "image_shape can't")
    says("output_range", lambda limits: [False, True], "output_range can't")
    says("training_config", lambda config: [config], "training_config is no object")
    for key, text, expected in (
        ("latent_spec", header["latent_spec"].replace("2.30", "-2.30", 1), "latent_spec"),
        ("output_range", "[0.0, NaN]", "NaN is no number"),
        ("output_range", "[" * 100_000, "nested too deeply"),
        ("image_shape", "[1, 28, 28" + "0" * 5000 + "]", "image_shape"),
        ("training_config", '{"a": 1, "a": 2}', "a key is there twice"),
        ("iteration", "many", "iteration is 'many'"),
        ("config_sha256", "0", "config_sha256 is '0'"),
        ("surprise", "x", "unknown key 'surprise'"),
    ):
        assert expected in refused(tmp_path, tensors, {**header, key: text})


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"c1_cat10": "0123456789"}, "doesn't fit"),
        ({"c1_cat10": [*range(10)]}, "names a category of c1_cat10 0; text"),
        ({"c1_cat10": [["3"], *"123456789"]}, 'names a category of c1_cat10 ["3"]'),
        ({"c1_cat10": [*"012345678", "9" * 5000]}, "names a category"),
        ({"c2_uni": []}, "doesn't fit"),
        ({"c1_cat10": [*"0123456789"], "nothing": []}, "doesn't fit"),
        ([["c1_cat10", "0123456789"]], "is no object"),
        (None, "is no object"),
        ("c1_cat10", "is no object"),
    ],
)
def test_labels_are_text_for_each_category(tmp_path, whole, labels, expected):
    _, tensors, header = whole
    text = json.dumps(labels)
    assert expected in refused(tmp_path, tensors, {**header, "code_to_label": text})


def test_odd_labels_can_be_drawn(tmp_path):
    """Of folders that people have; the terminal's escapes among them."""
    odd = ["\x1b[2J", "a\nb", "\udcff", "x" * 255, "", "数字", "\u202e", "9" * 250, "²", None]
    path, _, _ = exported(tmp_path, "mnist-mlp", code_to_label={"c1_cat10": odd})
    loaded = load_generator(path)
    assert loaded.code_to_label == {"c1_cat10": odd}
    assert loaded.traverse("c1").dtype == np.uint8


def test_long_and_odd_words_are_cut_before_they_are_printed(tmp_path, whole):
    _, tensors, header = whole
    escape = "\x1b]0;title\x07"
    for key, text in (
        ("format_version", "9" * 100_000),
        ("format_version", escape),
        (f"surprise{escape}", "x"),
        ("k" * 10_000, "x"),
        ("iteration", escape * 1000),
        ("architecture", "{" + escape),
        ("latent_spec", json.dumps({"noise": {"width": 1}, "specification": escape * 9999})),
    ):
        refused(tmp_path, tensors, {**header, key: text})
    refused(tmp_path, {**tensors, f"{escape}\n" * 500: torch.zeros(1)}, header)


def test_sizes_are_bounded_before_memory_is_taken(tmp_path, whole):
    _, tensors, header = whole
    layers, latents = (json.loads(header[key]) for key in ("architecture", "latent_spec"))
    wide = [{**layers[0], "outputs": [10**12]}, layers[1]]
    image = {**layers[1], "reshape": {**layers[1]["reshape"], "height": 1, "width": 784}}
    up = {"kind": "upconv", "outputs": [1, 1, 1], "stride": 2, "norm": None, "activation": {
        "kind": "tanh"}}  # fmt: skip
    with memory_below(20e6):
        for architecture in (wide, [layers[0], image, *[up] * 30]):
            changed = {**header, "architecture": json.dumps(architecture)}
            assert "asks for more than" in refused(tmp_path, tensors, changed)
        spec = json.dumps({**latents, "noise": {**latents["noise"], "width": 10**9}})
        assert "0 to 4096" in refused(tmp_path, tensors, {**header, "latent_spec": spec})
        path = tmp_path / "large.safetensors"
        with open(path, "wb") as file:
            file.truncate(MAX_BYTES + 1)
        assert "MiB; at most" in error_of(load_generator, path)


def test_a_name_of_any_bytes_is_a_name(tmp_path, whole):
    path = tmp_path / os.fsdecode(b"\xff\xfe.safetensors")
    try:
        shutil.copy(whole[0], path)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    assert (load_generator(path).sample(1) == load_generator(whole[0]).sample(1)).all()


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    assert "generator.safetensors is not there" in error_of(load_generator, tmp_path)
    (tmp_path / "generator.safetensors").mkdir()
    assert "not a regular file" in error_of(load_generator, tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in error_of(load_generator, tmp_path / "pipe")
