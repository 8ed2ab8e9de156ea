"""The presets, what resolves from them, and the configuration tree."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fastinfogan.config import (
    PRESETS,
    DataConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    differences,
    folder_architecture,
    from_dict,
    preset_config,
    resolve,
    sprites_architecture,
    to_dict,
)
from fastinfogan.config.jitter import parse_jitter
from fastinfogan.errors import UserError
from fastinfogan.kernels.jitter import Jitter
from fastinfogan.model.networks import Discriminator, Generator
from fastinfogan.results.run import images_of


def through_both_networks(config, device):
    """G's images, D's logits and Q's output for two latents."""
    with torch.device(device):
        generator = Generator(config.architecture, config.spec)
        discriminator = Discriminator(config.architecture, config.spec, config.model.separate_q)
    with torch.no_grad():
        latents = config.spec.assemble(*config.spec.sample(2, seed=0, offset=0))
        images = generator(latents.to(device))
        return images, *discriminator(images)


@pytest.mark.parametrize("name", PRESETS)
def test_networks_produce_and_read_the_presets_images(name, narrow_presets):
    full, thin = preset_config(name), preset_config(f"narrow-{name}")
    for config, device in ((full, "meta"), (thin, "cpu")):  # meta: shapes, and no arithmetic
        images, logits, q_params = through_both_networks(config, device)
        assert images.shape == (2, *full.architecture.image_shape)
        assert logits.shape == (2,) and q_params.shape == (2, full.spec.q_width)
    assert thin.architecture.output_range == full.architecture.output_range
    low, high = full.architecture.output_range
    assert low <= images.min() < images.max() <= high


def test_tables_5_and_7():
    def settings(name):
        p = PRESETS[name]
        return p.lr_d, p.lr_g, p.lambda_cont, p.lambda_disc

    assert settings("faces-azimuth") == (2e-4, 5e-4, 0.2, 1.0)
    assert settings("faces-elevation") == (4e-4, 3e-4, 0.1, 1.0)
    assert settings("faces-lighting") == (8e-4, 3e-4, 0.1, 1.0)
    assert settings("chairs-rotation") == (2e-4, 1e-3, 10.0, 1.0)
    assert settings("chairs-width") == (2e-4, 1e-3, 0.05, 2.0)
    for name in ("mnist", "svhn", "celeba"):
        assert settings(name) == (2e-4, 1e-3, 1.0, 1.0)


@pytest.mark.parametrize("size", [16, 32, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
def test_folder_networks_of_any_size_end_in_4x4(size, channels):
    config = preset_config("folder")
    config = replace(config, data=DataConfig("folder", image_size=size, channels=channels))
    rows = config.architecture.rows(config.spec)
    assert rows["generator"][-1][2] == (channels, size, size)
    assert rows["trunk"][-1][2][1:] == (4, 4)


@pytest.mark.parametrize(("size", "channels"), [(48, 3), (8, 3), (256, 3), (32, 4)])
@pytest.mark.parametrize("family", [folder_architecture, sprites_architecture])
def test_sizes_of_a_family_that_cannot_be_built(family, size, channels):
    with pytest.raises(UserError, match="--image-size|--channels"):
        family(size, channels)


def test_networks_for_sprites_begin_at_8x8_and_end_in_4x4():
    for size, total in ((32, 32.0), (64, 4.0)):
        config = replace(
            preset_config("sprites"), data=DataConfig("sprites", image_size=size, channels=1)
        )
        rows = config.architecture.rows(config.spec)
        assert rows["generator"][1][2] == (64, 8, 8) and rows["trunk"][-2][2] == (64, 4, 4)
        assert rows["generator"][-1][2] == (1, size, size)
        scaled = [row.spectral for row, _, _ in rows["trunk"] + rows["d_head"]]
        assert math.prod(scaled) == pytest.approx(total)


@pytest.mark.parametrize(
    ("preset", "given", "size"),
    [(None, None, 32), (None, 64, 64), ("folder", 64, 64), ("infogan-cr", None, 64),
     ("rendered-faces", None, 32), ("rendered-faces", 32, 32)],
)  # fmt: skip
def test_sprites_have_the_size_that_the_preset_asks_for(preset, given, size):
    config = TrainConfig(DataConfig("sprites", image_size=given), ModelConfig(preset))
    resolved = resolve(config)
    assert resolved.architecture.image_shape == (1, size, size)
    assert images_of(resolved, "train").image_shape == (1, size, size)
    assert resolve(resolved) == resolved


def test_defaults_resolve_to_the_digits_preset_on_digits():
    config = resolve(TrainConfig())
    assert config.model == ModelConfig("digits", "cat10,2xuni", 62, False)
    assert (config.optim.iterations, config.optim.batch_size) == (1_000, 128)
    assert resolve(config) == config  # nothing is left to resolve


def test_what_isn_t_the_papers_is_off_in_its_presets():
    placed = ("rendered-chairs", "sprites")  # whose networks see where they are
    for name in PRESETS:
        optim = preset_config(name).optim
        assert (optim.contrastive > 0) == (name == "infogan-cr")
        assert (optim.orthogonal > 0, optim.decay > 0) == (name in placed,) * 2
        on = (optim.consistency > 0, optim.augment)
        ours = {"digits": (True, True)} | dict.fromkeys(("rendered-faces", *placed), (False, True))
        assert on == ours.get(name, (False, False))
        assert Jitter() != parse_jitter(optim.jitter)  # each can be turned on alone
    paper, ours = PRESETS["mnist"], PRESETS["digits"]
    assert ours.architecture is paper.architecture
    assert (ours.codes, ours.noise, ours.lr_d, ours.lr_g) == (
        *(paper.codes, paper.noise, paper.lr_d, paper.lr_g),
    )
    assert PRESETS["rendered-faces"].architecture is PRESETS["faces-azimuth"].architecture


def test_what_is_given_beats_the_preset():
    config = resolve(
        TrainConfig(model=ModelConfig(codes="cat5,uni,uni", noise=0), optim=OptimConfig(lr_g=5e-4))
    )
    assert (config.model.codes, config.model.noise) == ("cat5,2xuni", 0)
    assert (config.optim.lr_g, config.optim.lr_d) == (5e-4, 2e-4)


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        ({"data": {"dataset": "digitz"}}, "--dataset 'digitz' is unknown"),
        ({"model": {"preset": "mnits"}}, "did you mean mnist"),
        ({"model": {"preset": "celeba"}}, "works on 3x32x32 images"),
        ({"model": {"codes": "cat10:free"}}, "at least one code must not be :free"),
        ({"model": {"codes": "wat"}}, "--codes 'wat'"),
        ({"model": {"noise": 10_000}}, "--noise 10000"),
        ({"data": {"dataset": "folder", "image_size": 48}}, "--image-size 48"),
        ({"data": {"dataset": "folder", "channels": 2}}, "--channels 2"),
        ({"optim": {"batch_size": 1}}, "--batch-size 1: 2 or more"),
        ({"optim": {"iterations": 0}}, "--iterations 0"),
        ({"optim": {"lr_g": 0.0}}, "--lr-g 0.0"),
        ({"optim": {"lr_d": float("nan")}}, "--lr-d nan"),
        ({"optim": {"lambda_disc": -1.0}}, "--lambda-disc -1.0"),
        ({"optim": {"beta1": 1.0}}, "--beta1 1.0"),
        ({"optim": {"consistency": -0.1}}, "--consistency -0.1: 0 or more works"),
        ({"optim": {"consistency": float("nan")}}, "--consistency nan: 0 or more works"),
        ({"optim": {"consistency": float("inf")}}, "--consistency inf: 0 or more works"),
        (
            {"model": {"codes": "4xuni,cat10:free"}, "optim": {"consistency": 1.0}},
            "--consistency 1: --codes 4xuni,cat10:free has no categorical or Bernoulli code",
        ),
        (
            {"optim": {"objective": "gan", "consistency": 0.5}},
            "--consistency 0.5: with --objective gan nothing that Q learns may reach D",
        ),
        ({"optim": {"jitter": ""}}, "--jitter '': nothing changes"),
        ({"optim": {"jitter": "rotation=0"}}, "--jitter '': nothing changes"),
        ({"optim": {"jitter": "rotation=0.9"}}, "--jitter 'rotation=0.9': 0 to 0.8 works"),
        ({"optim": {"jitter": "shift=0.51"}}, "--jitter 'shift=0.51': 0 to 0.5 works"),
        ({"optim": {"jitter": "scale=1"}}, "--jitter 'scale=1': 0 to 0.5 works"),
        ({"optim": {"jitter": "shear=-0.1"}}, "--jitter 'shear=-0.1': 0 to 0.5 works"),
        ({"optim": {"jitter": "contrast=nan"}}, "--jitter 'contrast=nan': 0 to 0.5 works"),
        ({"optim": {"jitter": "brightness=much"}}, "--jitter 'brightness=much': 0 to 0.5 works"),
        ({"optim": {"jitter": "shift"}}, "--jitter 'shift': 0 to 0.5 works"),
        ({"optim": {"jitter": "flip=0.5"}}, "--jitter 'flip=0.5': 0 and 1 work"),
        ({"optim": {"jitter": "tilt=0.1"}}, "--jitter 'tilt=0.1': rotation, scale, shear"),
        ({"optim": {"jitter": "shear=0,shear=0.1"}}, "sets shear twice"),
        ({"run": {"seed": -1}}, "--seed -1"),
        ({"run": {"log_every": 0}}, "--log-every 0"),
        ({"run": {"checkpoint_every": 0}}, "--checkpoint-every 0"),
    ],
)
def test_bad_values_name_their_flag(tree, says):
    config = TrainConfig()
    for part, fields in tree.items():
        config = replace(config, **{part: replace(getattr(config, part), **fields)})
    with pytest.raises(UserError) as raised:
        resolve(config)
    assert says in str(raised.value) and "\n" not in str(raised.value)


def test_what_the_preset_has_on_can_be_turned_off_and_the_other_way_round():
    off = resolve(TrainConfig(optim=OptimConfig(consistency=0.0, augment=False)))
    assert off.model.preset == "digits" and (off.optim.consistency, off.optim.augment) == (0, False)
    gan = TrainConfig(optim=OptimConfig(objective="gan", consistency=0.0))
    assert resolve(gan).optim.augment  # it sees what it sees
    no_category = TrainConfig(
        model=ModelConfig("mnist", codes="5xuni"), optim=OptimConfig(augment=True, jitter="flip=1")
    )
    assert resolve(no_category).jitter == Jitter(flip=1.0)
    still = OptimConfig(consistency=0.0, augment=False, jitter="")
    assert resolve(TrainConfig(optim=still)).jitter == Jitter()


def test_ranges_are_read_in_any_spelling_and_written_in_one():
    optim = OptimConfig(jitter=" shift = 1e-1, rotation=.25 ,flip=1,, shear=0")
    config = resolve(TrainConfig(optim=optim))
    assert config.jitter == Jitter(rotation=0.25, shift=0.1, flip=1.0)
    assert config.optim.jitter == "rotation=0.25,shift=0.1,flip=1"
    assert parse_jitter(config.optim.jitter) == config.jitter


def test_config_json_round_trip():
    config = resolve(TrainConfig(data=DataConfig(data_dir=Path("some/where"))))
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda t: t["model"].pop("noise"), "noise"),
        (lambda t: t["optim"].update(warmup=3), "warmup"),
        (lambda t: t["optim"].update(lr_g="fast"), "lr_g is 'fast'"),
        (lambda t: t["optim"].update(objective="wgan"), "objective is 'wgan'"),
        (lambda t: t.update(data=3), "data"),
    ],
)
def test_a_config_of_another_version_is_refused_by_field(damage, says):
    tree = to_dict(resolve(TrainConfig()))
    damage(tree)
    with pytest.raises(UserError, match=says):
        from_dict(tree)


def test_differences_name_fields_and_fingerprint_ignores_bookkeeping():
    config = resolve(TrainConfig())
    moved = replace(config, run=replace(config.run, out=Path("elsewhere"), log_every=7))
    changed = replace(config, optim=replace(config.optim, lr_g=5e-4))
    assert differences(config, moved).keys() == {"run.out", "run.log_every"}
    assert differences(config, changed) == {"optim.lr_g": (1e-3, 5e-4)}
    assert config.fingerprint() == moved.fingerprint() != changed.fingerprint()
