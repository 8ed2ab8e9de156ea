"""Memory that an iteration frees: kept for the next one, and freed before it is short."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from engine_cases import CASES, batch_of, build

from fastinfogan.engine import build as engine_build
from fastinfogan.engine.kept_memory import keep_freed_memory
from fastinfogan.engine.step import FastEngine
from fastinfogan.plan import make_plan

# Prints how many pages came fresh from the system for the same tensor, nine times, once it had a
# few places to choose from; and whether it was to be kept.
FAULTS = """if True:
    import resource
    import torch
    from fastinfogan.engine.kept_memory import keep_freed_memory
    kept = keep_freed_memory() if KEEP else None
    def fill():
        torch.empty(40 << 20, dtype=torch.uint8).fill_(1)  # above 32 MiB
    for _ in range(30):
        fill()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(9):
        fill()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, kept)
"""


def faults(keep):
    code = FAULTS.replace("KEEP", str(keep))
    other = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")  # what would keep memory by itself
    environment = {name: os.environ[name] for name in os.environ if not name.startswith(other)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    count, kept = done.stdout.split()
    return int(count), kept


def test_a_large_tensor_takes_the_place_of_the_one_before():
    count, kept = faults(True)
    if kept == "False":
        pytest.skip("this C library can't be told to keep memory")
    assert kept == "True" and count <= faults(False)[0] / 10


@pytest.mark.usefixtures("narrow_presets")
@pytest.mark.parametrize("kind", ["fast", "reference"])
def test_the_fast_engine_keeps_memory_on_a_cpu(kind, monkeypatch):
    calls = []
    monkeypatch.setattr(engine_build, "keep_freed_memory", lambda: calls.append(1))
    config = CASES["mnist"]
    config = replace(config, run=replace(config.run, engine=kind, device="cpu"))
    engine_build.build_engine(config, make_plan(config.run))
    assert len(calls) == (kind == "fast")


def test_elsewhere_nothing_is_kept(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory.__wrapped__() is False


@pytest.mark.usefixtures("narrow_presets")
@pytest.mark.parametrize("case", ["mnist", "simultaneous"])
def test_an_iteration_begins_without_the_gradients_of_the_last(case):
    config = CASES[case]
    engine = build(FastEngine, config, torch.float32)
    weights = [*engine.adam_d.trained, *engine.adam_g.trained]
    engine.step(batch_of(config, 0, torch.float32))
    assert all(weight.grad is not None for weight in weights)
    generate, seen = engine._generate, []

    def generating(*arguments):
        seen.append([weight for weight in weights if weight.grad is not None])
        return generate(*arguments)

    engine._generate = generating
    engine.step(batch_of(config, 1, torch.float32))
    assert seen[0] == []
