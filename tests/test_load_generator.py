"""Loading a generator file gives back what was exported; a file that is not whole is refused."""

from __future__ import annotations

import pytest
import torch
from generator_files import exported
from safetensors import safe_open
from safetensors.torch import save_file
from tolerances import GENERATOR_FILE

from fastinfogan.config import from_dict
from fastinfogan.errors import UserError
from fastinfogan.model.reference import Generator as ReferenceGenerator
from fastinfogan.results.generator_file import load_generator


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
        (edited("architecture", "[", ""), "it isn't JSON, at line 1"),
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
    with pytest.raises(UserError, match="is not there; name a run.s folder or a generator file"):
        load_generator(tmp_path / "missing.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="no 'format_version'"):
        load_generator(tmp_path / "other.safetensors")
