"""Weights scaled by their largest singular value: the value, its gradient, and who brings it on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from engine_cases import batch_of, build, tiny
from torch.nn import functional as F

from fastinfogan.engine.step import FastEngine
from fastinfogan.model.block import Block
from fastinfogan.model.initial import initialize
from fastinfogan.model.reference import ReferenceEngine
from fastinfogan.model.singular import turn
from fastinfogan.training.average import EVERY, Average

pytestmark = pytest.mark.usefixtures("narrow_presets")
SPECTRAL = 2.0  # of the five layers of the preset's trunk and D's head


def scaled(network):
    return [
        module
        for module in network.modules()
        if isinstance(module, Block) and module.row.spectral is not None
    ]


def norms(network):
    with torch.no_grad():
        return [torch.linalg.matrix_norm(b.weight().flatten(1), 2).item() for b in scaled(network)]


def test_trunk_and_head_are_scaled_and_nothing_else():
    engine = build(FastEngine, tiny("sprites"), torch.float64)
    d = engine.discriminator
    assert scaled(d) == [*d.trunk, *d.d_head]
    assert (
        scaled(engine.generator) == []
        and scaled(build(FastEngine, tiny("mnist"), torch.float32).discriminator) == []
    )


def test_the_first_weights_have_the_norm_and_learning_keeps_it():
    config = tiny("sprites")
    config = replace(config, optim=replace(config.optim, lr_d=1e-3))
    engine = build(FastEngine, config, torch.float64)
    assert norms(engine.discriminator) == pytest.approx([SPECTRAL] * 5, rel=0.05)
    for iteration in range(10):
        engine.step(batch_of(config, iteration, torch.float64))
        turn(engine.discriminator)
    assert norms(engine.discriminator) == pytest.approx([SPECTRAL] * 5, rel=0.05)


def test_the_gradient_is_that_of_the_weight_over_its_norm():
    block = build(FastEngine, tiny("sprites"), torch.float64).discriminator.trunk[1]
    for _ in range(3_000):
        turn(block)
    weight = block.op.weight
    into = torch.randn(weight.shape, dtype=torch.float64)
    (found,) = torch.autograd.grad((block.weight() * into).sum(), weight)
    exact = SPECTRAL * weight / torch.linalg.matrix_norm(weight.flatten(1), 2)
    (expected,) = torch.autograd.grad((exact * into).sum(), weight)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", [FastEngine, ReferenceEngine])
def test_the_mean_of_the_weights_has_the_norm_too(kind):
    """Its vectors are its own: the mean of those of other weights each time is a short one."""
    config = tiny("sprites")
    engine = build(kind, config, torch.float64)
    average = Average(engine, 50)
    draws = torch.Generator().manual_seed(0)
    for iteration in range(500, 700, EVERY):  # 50 is the horizon from here on
        initialize(engine.discriminator, config.architecture, draws)
        average.update(iteration)
    with torch.no_grad():
        means = [block for block in average.discriminator.modules() if hasattr(block, "left")]
        matrices = [block.op.weight.flatten(1) for block in means]
        found = [(m.T @ b.left).norm().item() for b, m in zip(means, matrices, strict=True)]
        exact = [torch.linalg.matrix_norm(m, 2).item() for m in matrices]
    assert len(means) == 5 and found == pytest.approx(exact, rel=0.1)  # of means it is a fifth


@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
@pytest.mark.parametrize("kind", [FastEngine, ReferenceEngine])
def test_an_iteration_takes_one_step_of_power_iteration(kind, update):
    config = tiny("sprites", update=update)
    engine = build(kind, config, torch.float64)
    block = engine.discriminator.trunk[2]
    matrix, left = block.op.weight.detach().flatten(1).clone(), block.left.clone()
    engine.step(batch_of(config, 0, torch.float64))
    torch.testing.assert_close(block.left, F.normalize(matrix @ (matrix.T @ left), dim=0))


def test_in_half_precision_twins_go_by_the_same_singular_vectors():
    config = tiny("sprites")
    run = replace(config.run, amp=True, amp_dtype="bfloat16", device="cpu")  # emulated if need be
    config = replace(config, run=run)
    engine = build(FastEngine, config, torch.float32)
    twin = engine.adam_d.compute
    assert twin is not engine.discriminator
    for own, other in zip(scaled(engine.discriminator), scaled(twin), strict=True):
        assert own.left is other.left and other.op.weight.dtype == torch.bfloat16
    engine.step(batch_of(config, 0, torch.bfloat16))
    assert norms(engine.discriminator) == pytest.approx([SPECTRAL] * 5, rel=0.2)
