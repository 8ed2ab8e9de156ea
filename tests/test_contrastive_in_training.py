"""What --contrastive reaches in an iteration: G and its own network; and that it can be learned."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from engine_cases import batch_of, build, gradients, state, tiny

from fastinfogan.config import (
    PRESETS,
    DataConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    resolve,
)
from fastinfogan.engine.step import FastEngine
from fastinfogan.errors import UserError
from fastinfogan.model.reference import ReferenceEngine
from fastinfogan.training.alike import check_batch

pytestmark = pytest.mark.usefixtures("narrow_presets")

ENGINES = [FastEngine, ReferenceEngine]
UPDATES = ["alternating", "simultaneous"]


def steps(engine, config, other, read, dtype=torch.float64):
    """What ``read`` finds after a step on one batch, of two configurations."""
    batch, found = batch_of(config, 0, dtype), []
    for one in (config, other):
        subject = build(engine, one, dtype)
        if not one.optim.contrastive:
            inputs = (i._replace(shared=None) for i in (batch.inputs_d, batch.inputs_g))
            batch = batch._replace(**dict(zip(("inputs_d", "inputs_g"), inputs, strict=True)))
        losses = subject.step(batch)
        found.append((read(subject), losses))
    return found


def with_weight(config, weight):
    return replace(config, optim=replace(config.optim, contrastive=weight))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("preset", ["mnist", "mnist-mlp"])
def test_its_gradient_reaches_g_and_its_network_and_neither_d_nor_q(engine, update, preset):
    config = tiny(preset, codes="cat3,2xuni", update=update, contrastive=0.6)
    (with_it, losses), (without, paper) = steps(engine, config, with_weight(config, 0.0), gradients)
    own = {name for name in with_it if name.startswith("discriminator.contrast.")}
    assert own == with_it.keys() - without.keys() and own
    changed = {name for name in without if not torch.equal(with_it[name], without[name])}
    assert {name.split(".")[0] for name in changed} == {"generator"}
    for name in ("d_loss", "nll"):
        assert torch.equal(getattr(losses, name), getattr(paper, name))
    assert losses.contrastive > 0 and paper.contrastive is None


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("update", UPDATES)
def test_its_weight_is_g_s_and_changes_neither_what_is_reported_nor_its_network(engine, update):
    """G's gradient is linear in it: that of twice the weight is as far from once as from none."""
    config = tiny("mnist", update=update, contrastive=0.5)
    found = [steps(engine, config, with_weight(config, w), gradients)[1] for w in (0.0, 0.5, 1.0)]
    (none, _), (once, few), (twice, more) = found
    assert torch.equal(few.contrastive, more.contrastive)
    for name, gradient in once.items():
        if name.startswith("generator"):
            torch.testing.assert_close(
                twice[name] - gradient, gradient - none[name], rtol=1e-6, atol=1e-10
            )
        else:
            assert torch.equal(twice[name], gradient)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("update", UPDATES)
def test_g_s_update_leaves_its_network_s_statistics_alone(engine, update):
    """They are those of D's update: one batch of pairs, at batchnorm's momentum."""
    config = tiny("mnist", update=update, contrastive=0.6)
    subject = build(engine, config, torch.float64)
    batch, network = batch_of(config, 0, torch.float64), subject.discriminator.contrast
    with torch.no_grad():
        fake = subject.generator(batch.inputs_d.latents)
        x = torch.cat([fake[0::2], fake[1::2]], dim=1)
        for block in list(network)[:1]:
            x = block(x)
        mean = network[1].op(x).mean((0, 2, 3))
    subject = build(engine, config, torch.float64)
    subject.step(batch)
    running = state(subject)["discriminator.contrast.1.norm.running_mean"]
    torch.testing.assert_close(running, 0.1 * mean)


def test_its_network_learns_which_code_a_pair_shares():
    """With G at rest, and codes that can be seen: far below the log 2 of a guess."""
    config = tiny("mnist", codes="2xuni", batch=32, contrastive=1.0, lr_g=1e-12, lr_d=3e-3)
    config = replace(config, model=replace(config.model, noise=0))
    subject = build(FastEngine, config, torch.float32)
    with torch.no_grad():  # each code lights its own half of the image
        first, *others = subject.generator.layers
        for block in (first, *others):
            block.op.weight.mul_(12.0)
    losses = [
        subject.step(batch_of(config, i, torch.float32)).contrastive.item() for i in range(150)
    ]
    assert losses[0] == pytest.approx(math.log(2), abs=0.1)
    assert sum(losses[-20:]) / 20 < 0.4


def test_ranks_whose_shares_are_odd_are_refused():
    optim = OptimConfig(contrastive=1.0, batch_size=66)
    config = resolve(TrainConfig(model=ModelConfig("mnist"), optim=optim))
    check_batch(config, SimpleNamespace(size=3))
    with pytest.raises(UserError) as caught:
        check_batch(config, SimpleNamespace(size=2))
    says = "--batch-size 66: each of 2 ranks has 33 images of it, and --contrastive 1 makes pairs"
    assert str(caught.value).startswith(says) and "68 works" in str(caught.value)
    check_batch(with_weight(config, 0.0), SimpleNamespace(size=2))


@pytest.mark.parametrize(
    "changed",
    [
        {"optim": OptimConfig(objective="gan")},
        {"model": ModelConfig("infogan-cr", codes="cat3,uni,uni:free")},
    ],
)
def test_the_preset_s_is_off_where_it_has_nothing_to_act_on(changed):
    """Asked for by name it is refused there; from the preset it just isn't."""
    data, own = DataConfig("sprites"), ModelConfig("infogan-cr")
    assert resolve(TrainConfig(data, own)).optim.contrastive > 0
    changed = {"model": own} | changed
    assert resolve(TrainConfig(data, **changed)).optim.contrastive == 0


def test_its_network_is_the_trunk_on_two_images_with_batchnorm_but_next_to_them():
    """Numbers by hand, for the chairs: 1x64x64 images, one continuous code more than theirs."""
    config = tiny("chairs-rotation", codes="2xuni", contrastive=1.0)
    config = replace(config, model=replace(config.model, preset="chairs-rotation"))
    rows = config.rows
    by_hand = (
        2 * 64 * 16 + 64
        + 64 * 128 * 16 + 2 * 128
        + 128 * 256 * 16 + 2 * 256
        + 2 * (256 * 256 * 16 + 2 * 256)
        + 16384 * 1024 + 2 * 1024
        + 1024 * 2 + 2
    )  # fmt: skip
    assert sum(row.parameters(before) for row, before, _ in rows["contrast"]) == by_hand
    assert "contrast" not in with_weight(config, 0.0).rows
    mlp = tiny("mnist-mlp", codes="2xuni", contrastive=1.0).rows["contrast"]
    assert [row.norm for row, _, _ in mlp] == [False, False]


def test_a_presets_gap_goes_with_its_regulariser(monkeypatch):
    monkeypatch.setitem(PRESETS, "infogan-cr", replace(PRESETS["infogan-cr"], gap_until=7))

    def gap(**optim):
        config = TrainConfig(DataConfig("sprites"), ModelConfig("infogan-cr"), OptimConfig(**optim))
        return resolve(config).optim.gap_until

    assert gap() == gap(contrastive=0.5) == 7
    assert gap(contrastive=0.0) == gap(objective="gan") == 0
    assert gap(gap_until=9) == 9
