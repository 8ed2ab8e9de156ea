"""Losses that add themselves to the metrics' sums, and batches that are drawn ahead."""

from __future__ import annotations

import pytest
import torch
from engine_cases import batch_of, build, tiny

from bench.runner import draws_of
from fastinfogan.engine.draws import ALIGNED, _bits, _tensors, _together
from fastinfogan.engine.step import FastEngine
from fastinfogan.model.reference import ReferenceEngine
from fastinfogan.training.metrics import Window

pytestmark = pytest.mark.usefixtures("narrow_presets")


@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
@pytest.mark.parametrize(
    "extra", [{}, {"consistency": 1.0}, {"consistency": 1.0, "contrastive": 0.5}]
)
def test_the_sums_are_those_of_the_losses_reported(update, extra):
    config = tiny("mnist", update=update, **extra)
    engine = build(FastEngine, config, torch.float32)
    window, tallied = (
        Window(config.spec, torch.device("cpu"), config.optim.extra_losses) for _ in range(2)
    )
    tallied.beside(engine)
    assert engine.tally is None  # on a CPU there is no launch to spare
    engine.tally, tallied._tallied = tallied.sums[: 2 + len(config.spec.codes)], True
    for iteration in range(2):
        losses = engine.step(batch_of(config, iteration, torch.float32))
        tallied.add(losses)
        window.add(losses)
    assert window.sums.count_nonzero() == len(window.sums)
    assert torch.equal(tallied.sums, window.sums)


@pytest.mark.parametrize(("objective", "kind"), [("gan", FastEngine), ("infogan", ReferenceEngine)])
def test_whose_losses_are_not_all_ours_does_not_tally(objective, kind):
    config = tiny("mnist", objective=objective)
    engine = build(kind, config, torch.float32)
    window = Window(config.spec, torch.device("meta"))
    window.beside(engine)
    assert not window._tallied
    assert getattr(engine, "tally", None) is None


@pytest.mark.parametrize("preset", ["mnist", "celeba"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_batch_is_copied_bit_by_bit(dtype, preset):
    """Also numbers whose halves would be no numbers in half precision; colours as they lie."""
    config = tiny(preset, augment=True, batch=7)
    drawn = draws_of(config, torch.device("cpu"), dtype).next()
    kept, memory = _together(drawn)
    memory.zero_()
    drawn.inputs_d.values.view(torch.int32)[:] = 0x3FFF_7F81
    torch.cat(_bits(drawn), out=memory)
    assert all(tensor.data_ptr() % ALIGNED == 0 for tensor in _tensors(kept))
    for a, b in zip(_tensors(kept), _tensors(drawn), strict=True):
        assert torch.equal(a, b) and a.stride() == b.stride()
    assert (kept.inputs_d.values.view(torch.int32) == 0x3FFF_7F81).all()
