"""Memory that an iteration frees: kept for the next one, and freed before it is short."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from engine_cases import CASES, batch_of, build

from fastinfogan.engine.step import FastEngine

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
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, kept = out.stdout.split()
    return int(count), kept


@pytest.mark.skipif(sys.platform != "linux", reason="the GNU C library's")
def test_a_large_tensor_takes_the_place_of_the_one_before():
    count, kept = faults(True)
    if kept == "False":
        pytest.skip("this C library has no mallopt")
    assert count < faults(False)[0] / 20


def test_elsewhere_nothing_is_kept(monkeypatch):
    from fastinfogan.engine.kept_memory import keep_freed_memory

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
    judge, seen = engine._judge, []

    def judging(*arguments):
        seen.append([weight for weight in weights if weight.grad is not None])
        return judge(*arguments)

    engine._judge = judging
    engine.step(batch_of(config, 1, torch.float32))
    assert seen[0] == []
