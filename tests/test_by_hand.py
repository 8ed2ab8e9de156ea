"""Iterations of small fully connected networks without autograd: when, and that nothing changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from engine_cases import BOTH, batch_of, build, gradients, losses_of, state, tiny

from fastinfogan.engine.build import build_engine
from fastinfogan.engine.step import FastEngine
from fastinfogan.kernels.dispatch import plain_ops
from fastinfogan.plan import Plan

pytestmark = pytest.mark.usefixtures("narrow_presets")
CPU = torch.device("cpu")
EVERY_CODE = "cat3,gauss:learned,bern,cat4:free,uni:learned"


@pytest.mark.parametrize("codes", ["cat10", EVERY_CODE])
@pytest.mark.parametrize("batch_size", [8, 13])
def test_to_the_bit_what_autograd_gives(codes, batch_size):
    """Losses, gradients and weights of several iterations: the same kernels, in the same order."""
    config = tiny("mnist-mlp", codes=codes)
    config = replace(config, optim=replace(config.optim, batch_size=batch_size))
    by_hand, taped = (build(FastEngine, config, torch.float32) for _ in range(2))
    assert by_hand._trio.runs()
    taped._trio = None
    for iteration in range(4):
        batch = batch_of(config, iteration, torch.float32)
        losses = losses_of(by_hand, batch), losses_of(taped, batch)
        for found in (losses, *((f(by_hand), f(taped)) for f in (gradients, state))):
            pairs = zip(*(f.values() if isinstance(f, dict) else f for f in found), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs if a is not None), iteration


def test_where_autograd_stays():
    """With a network, an objective or a number type that it isn't for; and among plain ops."""
    stays = [
        tiny("mnist"),
        tiny("mnist-mlp", objective="gan"),
        tiny("mnist-mlp", **BOTH),
        replace(plain := tiny("mnist-mlp"), model=replace(plain.model, separate_q=False)),
    ]
    assert [build_engine(config, Plan(CPU))._trio for config in stays] == [None] * len(stays)
    for plan in (Plan(CPU, compile=True), Plan(CPU, half=torch.bfloat16)):
        trio = build_engine(plain, plan)._trio
        assert trio is None or not trio.runs()
    engine = build_engine(plain, Plan(CPU))
    with plain_ops():
        assert not engine._trio.runs()
