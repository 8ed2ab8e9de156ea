"""The explorer's own programs, in node: they draw what ``sample`` and ``traverse`` draw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from explorers import FAMILIES, NO_NODE, NODE, in_node
from generator_files import exported

from fastinfogan.config import preset_config
from fastinfogan.model.latent_spec import Latents, make_spec
from fastinfogan.model.networks import Generator
from fastinfogan.results.explorer.packed import MOST_CHANGE, packed
from fastinfogan.results.generator_file import export_generator, load_generator
from fastinfogan.results.pictures import column_order, generate, pin_codes

pytestmark = [
    pytest.mark.skipif(NODE is None, reason=NO_NODE),
    pytest.mark.usefixtures("narrow_presets"),
]
PER_PIXEL = 1  # of 255: sums in another order may round to the neighbouring value
ULPS = 4e-6  # of draws of N(0, 1): logarithm and cosine in double or in single precision


def drawn(answer, shape):
    channels, height, width = shape
    return np.array(answer["pixels"], np.int64).reshape(-1, height, width, channels)


@pytest.mark.parametrize(
    "preset, short", [(preset, short) for preset in FAMILIES for short in (False, True)]
)
def test_samples_are_those_of_python(tmp_path, preset, short):
    path, _, config = exported(tmp_path, preset)
    trained = load_generator(path)
    allowed = PER_PIXEL
    if short:
        content, precision = packed(path.read_bytes(), trained)
        assert precision.startswith("16 bits")
        assert len(content) < 0.8 * path.stat().st_size
        path.write_bytes(content)
        allowed += MOST_CHANGE
    codes = [None] * len(config.spec.codes)
    set_codes = [1, *codes[1:]]
    plain, pinned = in_node(
        {"file": path, "seed": 5, "count": 7, "set": codes},
        {"file": path, "seed": 2**40 + 3, "count": 2, "set": set_codes},
    )
    for answer, expected in (
        (plain, trained.sample(7, seed=5)),
        (pinned, trained.sample(2, seed=2**40 + 3, fixed={0: 1.0})),
    ):
        assert expected.std() > 20  # it shows something
        images = drawn(answer, config.architecture.image_shape)
        assert images.shape == expected.shape
        assert np.abs(images - expected).max() <= allowed


@pytest.mark.parametrize(
    "codes, noise",
    [("cat10,uni,uni", 5), ("uni,gauss,bern,cat3,gauss:free", 3), ("2xcat1024,bern", 0)],
)
def test_noise_and_codes_are_those_of_python(tmp_path, codes, noise):
    """Counters, pairs of columns, and every kind of code."""
    path, spec = of_codes(tmp_path, codes, noise)
    (answer,) = in_node({"file": path, "seed": 11, "count": 40, "set": [None] * len(spec.codes)})
    expected = spec.sample(40, seed=11, offset=0)
    for name in ("noise", "values"):
        own = torch.tensor(answer[name], dtype=torch.float32).reshape(40, -1)
        torch.testing.assert_close(own, getattr(expected, name), rtol=ULPS, atol=ULPS)


def of_codes(tmp_path, codes, noise):
    """A small generator of these codes."""
    config = preset_config("narrow-mnist")
    config = replace(config, model=replace(config.model, codes=codes, noise=noise))
    path = tmp_path / "generator.safetensors"
    export_generator(path, Generator(config.architecture, config.spec), config, iteration=1)
    assert config.spec == make_spec(noise, codes)
    return path, config.spec


@pytest.mark.parametrize("code", [0, 1])
def test_a_varied_code_is_that_of_traverse(tmp_path, code):
    labels = {"c1_cat10": ["3", None, "12", "1", "x", "0", None, "2", "a", "9"]}
    path, _, config = exported(tmp_path, "narrow-mnist", code_to_label=labels)
    trained, spec = load_generator(path), config.spec
    order = column_order(labels["c1_cat10"])
    (answer,) = in_node(
        {"file": path, "seed": 3, "count": 4, "columns": 6, "vary": code, "set": [None, None, 0.5]}
    )
    shown = [float(k) for k in order] if code == 0 else torch.linspace(-2, 2, 6).tolist()
    assert answer["columns"] == len(shown)
    if code == 0:
        assert answer["heads"] == ["0", "1", "2", "3", "9", "12", "a", "x", "#1", "#6"]
    noise, values = spec.sample(4, seed=3, offset=0)
    if code == 1:  # rows show one category each, as in ``traversal``
        values[:, 0] = torch.tensor(order[:4], dtype=torch.float32)
    values = pin_codes(spec, values, {2: 0.5}).repeat_interleave(len(shown), dim=0)
    values[:, code] = torch.tensor(shown).repeat(4)
    noise = noise.repeat_interleave(len(shown), dim=0)
    expected = generate(trained.generator, spec, Latents(noise, values), trained.output_range)
    images = drawn(answer, config.architecture.image_shape)
    assert np.abs(images - expected).max() <= PER_PIXEL
