"""On a GPU, every preset at its full size: tiles and parts that narrow networks don't have."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from bench.runner import draws_of
from fastinfogan.config import PRESETS, preset_config
from fastinfogan.engine.build import build_engine
from fastinfogan.engine.graph import WARMUP, Captured, Eager
from fastinfogan.kernels import triton_module
from fastinfogan.plan import make_plan
from fastinfogan.training.checkpoint import engine_state


def state_after(
    preset: str, iterations: int, one_stream: bool = False, recorded: bool = False
) -> dict[str, torch.Tensor]:
    """Of both networks and optimisers, with --amp; recorded ones have batches drawn ahead."""
    config = preset_config(preset)
    run = replace(config.run, device="cuda:0", amp=True, compile=False, cuda_graphs=recorded)
    plan = make_plan(run)
    engine = build_engine(replace(config, run=run), plan)
    draws = draws_of(config, plan.device, plan.input_dtype)
    if one_stream:
        engine.keep_to_one_stream()
    kind, told = Eager, []
    if recorded:
        draws.beside(engine)
        kind = partial(Captured, keep_to_one_stream=engine.keep_to_one_stream)
    kind(lambda: engine.step(draws.next()), None, told.append).run(iterations)
    assert not told
    return engine_state(engine)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("preset", PRESETS)
def test_iterations_are_finite_and_the_same_bits_beside_each_other(preset):
    """Three of them, on images of noise: twice as they are, and once on one stream."""
    found = [state_after(preset, 3, one_stream) for one_stream in (False, False, True)]
    assert_same(*found)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("preset", ["mnist", "digits", "celeba"])
def test_recorded_iterations_are_the_same_bits_as_one_after_the_other(preset):
    """Replayed graphs, with batches drawn ahead, and launches on one stream without them."""
    recorded = state_after(preset, WARMUP + 25, recorded=True)
    assert_same(recorded, state_after(preset, WARMUP + 25, one_stream=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("preset", ["mnist", "digits", "celeba"])
@pytest.mark.parametrize("recorded", [False, True])
def test_early_launches_leave_the_same_bits(preset, recorded, monkeypatch):
    """They wait for what they read; and what they fill is no longer read."""
    if torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("launches can be early from compute capability 9.0 on")
    late = state_after(preset, WARMUP + 25, recorded=recorded)
    monkeypatch.setattr(triton_module, "early", True)
    assert_same(late, *(state_after(preset, WARMUP + 25, recorded=recorded) for _ in range(3)))


def assert_same(first, *others):
    for name, value in first.items():
        assert not value.is_floating_point() or value.isfinite().all(), name
        assert all(torch.equal(other[name], value) for other in others), name
