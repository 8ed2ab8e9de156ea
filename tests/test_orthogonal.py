"""L_orth: what is nudged, what is measured, and what of an iteration it reaches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from engine_cases import batch_of, build, gradients, tiny

from fastinfogan.engine.nudges import STEP, Nudges, crossing
from fastinfogan.engine.step import FastEngine
from fastinfogan.errors import UserError
from fastinfogan.kernels.latents import latents_reference
from fastinfogan.model.latent_spec import make_spec
from fastinfogan.model.reference import ReferenceEngine
from fastinfogan.training.alike import check_batch

pytestmark = pytest.mark.usefixtures("narrow_presets")
SPEC = make_spec(2, "cat3,uni,uni:free,gauss,uni")  # columns: 0-1, 2-4, 5, 6, 7, 8
NUDGED, OTHERS = [5, 7, 8], [0, 1, 2, 3, 4, 6]


def nudged(batch=40):
    latents, values = latents_reference(SPEC.noise, SPEC.codes, batch, 0, torch.tensor([0]))
    return latents, Nudges(SPEC, torch.device("cpu"))(latents, values)


def test_every_fourth_sample_has_two_codes_nudged_either_way():
    latents, found = nudged()
    assert found.shape == (40, SPEC.input_width)
    own = latents[::4]
    middle = own.clone()
    middle[:, NUDGED] *= 1 - STEP
    up, down, up_too, down_too = (kind - middle for kind in found.chunk(4))
    chosen = []
    for one, other in ((up, down), (up_too, down_too)):
        torch.testing.assert_close(one, -other)
        assert (one[:, OTHERS] == 0).all()
        size, column = one.max(dim=1)
        torch.testing.assert_close(size, torch.full_like(size, STEP))
        torch.testing.assert_close(one.sum(dim=1), size)  # one column alone
        chosen.append(column)
    assert (chosen[0] != chosen[1]).all()
    assert set(torch.stack(chosen).flatten().tolist()) == set(NUDGED)
    assert found[:, [5, 8]].abs().max() <= 1.0  # no uniform code leaves its range


def test_each_pair_of_codes_comes_as_often_as_any_other():
    spec = make_spec(0, "4xuni")
    latents, values = latents_reference(0, spec.codes, 24_000, 0, torch.tensor([0]))
    up, down, up_too, down_too = Nudges(spec, torch.device("cpu"))(latents, values).chunk(4)
    pairs = torch.stack([(up - down).argmax(1), (up_too - down_too).argmax(1)], 1).sort(1).values
    counts = torch.bincount(pairs[:, 0] * 4 + pairs[:, 1])
    counts = counts[counts > 0]
    # 6,000 samples, six pairs: a count's standard deviation is 29
    assert len(counts) == 6 and (counts - 1000).abs().max() < 150


@pytest.mark.parametrize(("alike", "expected"), [(0.0, 0.0), (1.0, 1.0), (-1.0, 1.0), (0.5, 0.2)])
def test_it_is_the_squared_cosine_of_two_changes(alike, expected):
    """u = e1, v = alike e1 + sqrt(1 - alike^2) e2, but for 0.5 e1 + e2: cos^2 = 0.25 / 1.25."""
    u, v = torch.zeros(2, 3, 1, 4, 4, dtype=torch.float64)
    u[:, 0, 0, 0], v[:, 0, 0, 0] = 1.0, alike
    v[:, 0, 1, 1] = 1.0 if abs(alike) < 1 else 0.0
    base = torch.rand(3, 1, 4, 4, dtype=torch.float64)
    images = torch.cat([base + u, base - u, base + 7 * v, base - 7 * v])
    assert crossing(images).item() == pytest.approx(expected, abs=1e-5)


def test_no_change_at_all_counts_as_none_and_has_a_gradient():
    images = torch.ones(8, 1, 4, 4, requires_grad=True)
    loss = crossing(images)
    loss.backward()
    assert loss.item() == 0 and images.grad.isfinite().all()


@pytest.mark.parametrize("kind", [FastEngine, ReferenceEngine])
@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
def test_its_gradient_reaches_g_alone_and_statistics_don_t_see_its_images(kind, update):
    config = tiny("mnist", codes="cat3,2xuni", update=update, orthogonal=0.6)
    without = replace(config, optim=replace(config.optim, orthogonal=0.0))
    batch, found, statistics = batch_of(config, 0, torch.float64), [], []
    for one in (config, without):
        engine = build(kind, one, torch.float64)
        losses = engine.step(batch)
        assert (losses.orthogonal is None) == (one is without)
        found.append(gradients(engine))
        statistics.append(dict(engine.generator.named_buffers()))
    changed = {name for name in found[0] if not torch.equal(found[0][name], found[1][name])}
    assert {name.split(".")[0] for name in changed} == {"generator"}
    for name, tensor in statistics[1].items():
        assert torch.equal(statistics[0][name], tensor), name


def test_it_falls_when_it_is_all_that_counts():
    """Of a G that the other losses hardly move, two codes come to change other pixels."""
    config = tiny("sprites", codes="2xuni", batch=8, orthogonal=1e4, augment=False)
    engine = build(FastEngine, config, torch.float32)
    found = [
        engine.step(batch_of(config, iteration, torch.float32)).orthogonal.item()
        for iteration in range(150)
    ]
    assert sum(found[-20:]) < 0.3 * sum(found[:20])


class _Two:
    size = 2


def test_several_ranks_are_refused():
    with pytest.raises(UserError, match="--orthogonal 3.*this run has 2.*--orthogonal 0"):
        check_batch(tiny("sprites"), _Two())
