"""What --consistency reaches in an iteration: Q's path through the copies, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from engine_cases import batch_of, build, gradients, state, tiny

from fastinfogan.config import ModelConfig, OptimConfig, TrainConfig, resolve
from fastinfogan.engine.step import FastEngine
from fastinfogan.model.reference import ReferenceEngine

pytestmark = pytest.mark.usefixtures("narrow_presets")

ENGINES = [FastEngine, ReferenceEngine]
UPDATES = ["alternating", "simultaneous"]


def without(config, batch):
    """The same configuration and batch with the weight at 0, and so without copies."""
    config = replace(config, optim=replace(config.optim, consistency=0.0))
    return config, batch._replace(copy=None)


def after_a_step(engine, config, batch, read):
    """What ``read`` finds in the engine after one iteration with consistency, and without."""
    found = []
    for configuration, consumed in ((config, batch), without(config, batch)):
        subject = build(engine, configuration, torch.float64)
        subject.step(consumed)
        found.append(read(subject))
    return found


def differing(found):
    a, b = found
    assert a.keys() == b.keys()
    return {name for name in a if not torch.equal(a[name], b[name])}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("preset", ["mnist", "mnist-mlp", "svhn"])
def test_running_statistics_are_as_without_it(engine, update, preset):
    """Of D, Q and G: the two looks that Q takes for it leave no trace."""
    config = tiny(preset, update=update, consistency=0.7, augment=True)
    batch = batch_of(config, 0, torch.float64)

    def statistics(subject):
        return {name: tensor for name, tensor in state(subject).items() if "running" in name}

    found = after_a_step(engine, config, batch, statistics)
    assert differing(found) == set()
    assert bool(found[0]) == (preset != "mnist-mlp")  # which has no batchnorm


@pytest.mark.parametrize("engine", ENGINES)
def test_its_gradient_reaches_trunk_and_q_and_neither_d_s_head_nor_g(engine):
    """Of the weights before any update, so a simultaneous one: G's come from the same."""
    config = tiny("mnist", update="simultaneous", consistency=0.7, augment=True)
    batch = batch_of(config, 0, torch.float64)
    changed = differing(after_a_step(engine, config, batch, gradients))
    assert {name.split(".")[1] for name in changed} == {"trunk", "q_head"}
    assert all(name.startswith("discriminator.") for name in changed)


@pytest.mark.parametrize("engine", ENGINES)
def test_with_a_trunk_of_its_own_q_alone_learns_from_it(engine):
    config = tiny("mnist-mlp", update="simultaneous", consistency=0.7)
    batch = batch_of(config, 0, torch.float64)
    changed = differing(after_a_step(engine, config, batch, gradients))
    assert {name.split(".")[1] for name in changed} == {"q_trunk", "q_head"}


@pytest.mark.parametrize("engine", ENGINES)
def test_no_gradient_of_it_reaches_the_real_image(engine):
    """What it says of the image itself is a constant: only the copy's answer gives way."""
    config = tiny("mnist", consistency=0.7)
    grads = []
    for configuration, batch in (
        (config, batch_of(config, 0, torch.float64)),
        without(config, batch_of(config, 0, torch.float64)),
    ):
        batch.real.requires_grad_()
        if batch.copy is not None:
            batch.copy.requires_grad_()
        build(engine, configuration, torch.float64).step(batch)
        grads.append((batch.real.grad, None if batch.copy is None else batch.copy.grad))
    assert torch.equal(grads[0][0], grads[1][0])
    assert grads[0][1].flatten(1).any(1).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_continuous_codes_take_no_part(engine):
    """Of Q's last layer, only the rows of discrete codes get another gradient."""
    config = tiny("mnist", codes="uni,cat3,gauss:learned,bern,cat4:free", consistency=0.7)
    batch = batch_of(config, 0, torch.float64)

    def last_layer(subject):
        *_, (weight, bias) = (
            (name, f"{name.removesuffix('weight.grad')}bias.grad")
            for name in gradients(subject)
            if "q_head" in name and name.endswith("op.weight.grad")
        )
        rows = zip(gradients(subject)[weight], gradients(subject)[bias], strict=True)
        return {i: torch.cat([w.flatten(), b.view(1)]) for i, (w, b) in enumerate(rows)}

    found = after_a_step(engine, config, batch, last_layer)
    assert differing(found) == {1, 2, 3, 6}  # cat3, bern


@pytest.mark.parametrize("engine", ENGINES)
def test_a_copy_that_is_the_image_changes_nothing(engine):
    """Without --augment Q says the same of both: a loss of 0, and no gradient."""
    config = tiny("mnist", consistency=0.7)
    batch = batch_of(config, 0, torch.float64)
    batch = batch._replace(copy=batch.real.clone())
    losses = build(engine, config, torch.float64).step(batch)
    # D's pass takes real and generated images together: other sums, hence rounding.
    assert losses.consistency.abs() < 1e-15
    both = after_a_step(engine, config, batch, gradients)
    for name, gradient in both[1].items():
        torch.testing.assert_close(both[0][name], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("update", UPDATES)
def test_what_is_reported_does_not_depend_on_the_weight(engine, update):
    """L_cons of the weights before the update, in nats; the other losses as without it."""
    reported = []
    for weight in (0.25, 4.0):
        config = tiny("mnist", update=update, consistency=weight)
        batch = batch_of(config, 0, torch.float64)
        reported.append(build(engine, config, torch.float64).step(batch))
    config, batch = without(config, batch)
    reported.append(build(engine, config, torch.float64).step(batch))
    assert torch.equal(reported[0].consistency, reported[1].consistency)
    assert reported[0].consistency > 0.0 and reported[2].consistency is None
    for losses in reported[1:]:
        assert torch.equal(losses.d_loss, reported[0].d_loss)
        assert torch.equal(losses.nll, reported[0].nll)


@pytest.mark.parametrize("engine", ENGINES)
def test_augmented_judging_shows_g_s_images_to_d_changed(engine):
    """Maps that change nothing give what is without; G's gradient flows back through others."""
    config = tiny("mnist", update="simultaneous", augment=True)
    batch = batch_of(config, 0, torch.float64)
    still = torch.tensor([[1.0, 0, 0, 0, 1, 0, 1, 0]]).expand(config.optim.batch_size, -1)
    away = still + torch.tensor([0, 0, 5.0, 0, 0, 0, 0, 0])  # beyond the border, all of it

    def step(maps):
        inputs = batch.inputs_d._replace(maps=maps)
        subject = build(engine, config, torch.float64)
        subject.step(batch._replace(inputs_d=inputs))
        return gradients(subject)

    grads = {name: step(maps) for name, maps in (("none", None), ("still", still), ("away", away))}
    for name, gradient in grads["none"].items():
        torch.testing.assert_close(grads["still"][name], gradient, rtol=1e-9, atol=1e-12)
        if name.startswith("generator"):
            assert gradient.any() and not grads["away"][name].any()


@pytest.mark.parametrize(
    "changed",
    [
        {"optim": OptimConfig(objective="gan")},
        {"model": ModelConfig(codes="5xuni")},
        {"model": ModelConfig(codes="cat10:free,uni")},
    ],
)
def test_a_preset_s_consistency_is_off_where_it_has_nothing_to_act_on(changed):
    """Asked for by name it is refused there; from the preset it just isn't."""
    assert resolve(TrainConfig()).optim.consistency == 1.0
    assert resolve(TrainConfig(**changed)).optim.consistency == 0.0
