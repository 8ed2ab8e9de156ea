"""Updates that begin before their backward pass is over: the same weights, in two launches."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from engine_cases import CASES, batch_of, build

from fastinfogan.engine import flat
from fastinfogan.engine.step import FastEngine

pytestmark = pytest.mark.usefixtures("narrow_presets")


class Stream:
    """Stands in for one of a GPU: calls run at once."""

    def wait_stream(self, other):
        pass


@pytest.fixture(autouse=True)
def _streams_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(flat, "WORTHWHILE", 1)


@pytest.fixture
def updates(monkeypatch):
    """A row per launch of Adam: its numbers of parameters."""
    found, launch = [], flat.adam

    def noting(params, *args, **kwargs):
        found.append(len(params))
        launch(params, *args, **kwargs)

    monkeypatch.setattr(flat, "adam", noting)
    return found


def beside(engine):
    for adam in (engine.adam_d, engine.adam_g):
        adam.update_beside(Stream())
    return engine


def state_of(engine):
    """Weights, running statistics, and Adam's moments and steps, by name."""
    found = {}
    for part, adam in (("generator", engine.adam_g), ("discriminator", engine.adam_d)):
        found |= {f"{part}.{n}": t for n, t in getattr(engine, part).state_dict().items()}
        for i, state in adam.state_dict()["state"].items():
            found |= {f"{part}.{i}.{name}": tensor for name, tensor in state.items()}
    return found


@pytest.mark.parametrize("case", ["mnist", "svhn", "gan", "simultaneous", "separate-q"])
def test_the_weights_are_the_same_to_the_bit(case):
    config = CASES[case]
    plain, early = (build(FastEngine, config, torch.float32) for _ in range(2))
    beside(early)
    for iteration in range(3):
        batch = batch_of(config, iteration, torch.float32)
        for a, b in zip(plain.step(batch), early.step(batch), strict=True):
            assert a is b or torch.equal(a, b)
    expected, got = state_of(plain), state_of(early)
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_the_largest_parameter_and_all_after_it_are_updated_first(updates):
    """Before the gradients of what lies before it are there."""
    config = CASES["mnist"]
    engine = beside(build(FastEngine, config, torch.float32))
    adam, missing = engine.adam_d, []
    weight = adam.trained[0]
    update = adam._update
    adam._update = lambda part, *rest: (missing.append(weight.grad is None), update(part, *rest))
    engine.step(batch_of(config, 0, torch.float32))
    assert missing == [True, False]
    late, early = adam._parts
    sizes = [parameter.numel() for parameter in engine.discriminator.parameters()]
    assert early.parameters == slice(sizes.index(max(sizes)), len(sizes))
    assert late.numbers.stop == early.numbers.start
    whole = len(adam._flat)
    assert updates[:2] == [whole - early.numbers.start, early.numbers.start]
    assert len(updates) == 4  # G's as well


def test_what_a_recording_that_failed_has_begun_is_forgotten(updates, monkeypatch):
    config = CASES["mnist"]
    engine = beside(build(FastEngine, config, torch.float32))
    step = engine.adam_d.step
    monkeypatch.setattr(engine.adam_d, "step", lambda loss_scale: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        engine.step(batch_of(config, 0, torch.float32))
    assert len(updates) == 1
    engine.keep_to_one_stream()
    monkeypatch.setattr(engine.adam_d, "step", step)
    updates.clear()
    engine.step(batch_of(config, 0, torch.float32))
    assert sum(updates[:2]) == len(engine.adam_d._flat)


def test_gradients_of_the_copies_that_a_failed_recording_has_left_are_forgotten():
    config = CASES["consistency"]
    whole, broken = (build(FastEngine, config, torch.float32) for _ in range(2))
    first = next(broken._d_apart.parameters())  # whose gradient comes last
    fails = first.register_hook(lambda gradient: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        broken.step(batch_of(config, 0, torch.float32))
    assert any(weight.grad is not None for weight in broken._d_apart.parameters())
    fails.remove()
    for engine in (whole, broken):
        engine.step(batch_of(config, 0, torch.float32))
    pairs = zip(whole.adam_d.trained, broken.adam_d.trained, strict=True)
    assert all(torch.equal(a.grad, b.grad) for a, b in pairs)


def test_where_it_is_not_worth_a_launch_there_is_one(updates, monkeypatch):
    config = CASES["mnist"]
    engine = beside(build(FastEngine, config, torch.float32))
    engine.keep_to_one_stream()
    engine.step(batch_of(config, 0, torch.float32))
    assert len(updates) == 4  # the parts stay apart, but none is early
    updates.clear()
    monkeypatch.setattr(flat, "WORTHWHILE", 1 << 40)
    engine = beside(build(FastEngine, config, torch.float32))
    engine.step(batch_of(config, 0, torch.float32))
    assert len(updates) == 2


@pytest.mark.parametrize(
    ("case", "launches"), [("mnist", 4), ("consistency", 3), ("simultaneous", 2)]
)
def test_only_an_update_that_can_begin_early_takes_two_launches(updates, case, launches):
    """Not D's with copies, whose pass reads its weights, nor any that has all gradients at once."""
    config = CASES[case]
    engine = build(FastEngine, config, torch.float32)
    engine._update_beside(Stream())
    engine.step(batch_of(config, 0, torch.float32))
    assert len(updates) == launches


def test_without_all_its_gradients_nothing_begins_early(updates):
    """Gradients that are set, not accumulated, as in simultaneous updates."""
    config = CASES["simultaneous"]
    engine = beside(build(FastEngine, config, torch.float32))
    early = []
    engine.adam_d._arrive = early.append
    engine.step(batch_of(config, 0, torch.float32))
    assert engine.adam_d._early is None and early == []
    assert len(updates) == 4
