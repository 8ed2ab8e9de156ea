"""Measuring iterations: each subject's losses are checked, then subjects take turns."""

from __future__ import annotations

import gc
import os
import statistics
import time
from typing import Any

import torch

from bench.floor import Rates, work_of
from bench.harness import spread
from bench.runner import Parity, Runner, config_of
from bench.subjects import Subject
from fastinfogan.device import wait
from fastinfogan.engine.graph import WARMUP

ROUND_SECONDS = 0.1  # a round has as many iterations as the fastest subject does in this time
BASELINES = (
    "reference", "reference-autocast", "reference-compile", "reference-reduce-overhead", "ours",
    "ours-amp",
)  # fmt: skip


def warm_up(subject: Subject, runner: Runner, parity: Parity, half, device) -> dict[str, float]:
    """Run the first iterations and check the losses of the very first.

    Returns:
        The seconds of the first iteration, and of all of them.
    """
    began = time.perf_counter()
    runner.run(1)
    wait(device)
    first = time.perf_counter() - began
    parity.check(subject, runner, half)
    began = time.perf_counter()
    # On a GPU: up to the recording of graphs, the recording, and a few replays.
    runner.run(WARMUP + 20 if device.type == "cuda" else 2)
    wait(device)
    return {"first_iteration_s": first, "warm_up_s": first + time.perf_counter() - began}


def timed(runner: Runner, count: int, device: torch.device) -> tuple[float, float]:
    """Run ``count`` iterations.

    Returns:
        The seconds that one of them took, and those after which the host was free.
    """
    wait(device)
    began = time.perf_counter()
    runner.run(count)
    host = time.perf_counter() - began
    wait(device)
    return (time.perf_counter() - began) / count, host / count


def measure_steps(
    preset: str, subjects: list[Subject], rounds: int, device: torch.device, half, tiny: bool
) -> dict[str, Any]:
    """Measure every subject's iterations on one preset.

    Args:
        preset: its name.
        subjects: they take turns.
        rounds: how often.
        device: where.
        half: the type in which subjects with ``amp`` compute.
        tiny: take the narrow preset, and one round.

    Returns:
        What results files hold of a preset, but for floor and memory.
    """
    config = config_of(preset, tiny)
    results: dict[str, Any] = {s.name: {"says": s.says, "amp": s.amp} for s in subjects}
    runners: dict[str, Runner] = {}
    parity = Parity(config, device)
    for subject in subjects:
        result = results[subject.name]
        if subject.obstacle:
            result["skipped"] = subject.obstacle
            continue
        try:
            runner = Runner(subject, config, device)
            result |= warm_up(subject, runner, parity, half, device)
        except Exception as error:  # one that breaks must not cost the others' numbers
            result["failed"] = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
            continue
        if runner.told:
            result["note"] = "; ".join(runner.told)
        runners[subject.name] = runner
    if runners:
        fastest = min(timed(runner, 1, device)[0] for runner in runners.values())
        count = max(1, round(ROUND_SECONDS / fastest))
        if device.type == "cuda":
            count = 10 * max(1, round(count / 10))  # whole graphs
        times = {name: [] for name in runners}
        gc.collect()
        gc.disable()
        for _ in range(1 if tiny else rounds):
            for name, runner in runners.items():
                times[name].append(timed(runner, count, device))
        gc.enable()
        for name, pairs in times.items():
            totals, hosts = zip(*pairs, strict=True)
            results[name] |= {
                "iterations_per_round": count,
                "seconds": spread(totals),
                "host_seconds": spread(hosts),
                "images_per_s": config.optim.batch_size / statistics.median(totals),
                "ratio_to": {
                    base: spread([b[0] / t for b, t in zip(times[base], totals, strict=True)])
                    for base in BASELINES
                    if base in times and base != name
                },
            }
    return {
        "batch": config.optim.batch_size,
        "load_average": os.getloadavg()[0],
        "subjects": results,
    }


def add_floor(measured: dict[str, Any], preset: str, rates: Rates, half, tiny: bool) -> None:
    """Add the floor in each dtype to what ``measure_steps`` found, and its share of each time."""
    work = work_of(config_of(preset, tiny))
    measured |= {"flop": work.flop, "parameters": work.parameters, "floor_s": {}}
    for result in measured["subjects"].values():
        if "seconds" not in result:
            continue
        dtype = str(half).removeprefix("torch.") if result["amp"] else "float32"
        floor = rates.floor(work, dtype)
        measured["floor_s"][dtype] = floor
        result["floor_fraction"] = floor / result["seconds"]["median"]
