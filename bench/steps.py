"""Measuring iterations: each subject's losses are checked, then subjects take turns."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from bench.floor import Rates, work_of
from bench.harness import spread
from bench.processes import Apart, TooLate
from bench.runner import Parity, config_of
from bench.subjects import TUNED, Subject, amp_type

TO_BEGIN = 0.7  # of the seconds for a preset
TURN_SECONDS = 0.1  # a turn has as many iterations as its subject does in this time
BASELINES = (
    TUNED, f"{TUNED}-amp", "reference", "reference-tf32", "reference-autocast", "reference-compile",
    "reference-reduce-overhead", "reference-autocast-reduce-overhead", "ours", "ours-amp",
)  # fmt: skip
BEST = "best_compiled"  # the fastest of the compiled references: what ours has to beat


def measure_steps(
    preset: str,
    subjects: list[Subject],
    rounds: int,
    device: torch.device,
    amp_dtype: str = "auto",
    tiny: bool = False,
    together: int = 1,
    limit: float | None = None,
) -> dict[str, Any]:
    """Measure every subject's iterations on one preset.

    Args:
        preset: its name.
        subjects: they take turns.
        rounds: how often.
        device: where.
        amp_dtype: what --amp-dtype was given.
        tiny: take the narrow preset, and one round.
        together: subjects that warm up at a time. More than one saves minutes of compiling where
            there are cores, and makes what they say of their first iteration worth nothing.
        limit: seconds for all of it; None: as many as it takes. Subjects that haven't begun after
            ``TO_BEGIN`` of them are skipped, and the last round is the one in which they end.

    Returns:
        What results files hold of a preset, but for the floor.
    """
    config = config_of(preset, tiny)
    half = amp_type(device, amp_dtype)
    results: dict[str, Any] = {s.name: {"says": s.says, "amp": s.amp} for s in subjects}
    there: dict[str, Apart] = {}
    times: dict[str, list[tuple[float, float]]] = {}
    flags = ["--device", str(device), "--amp-dtype", amp_dtype, *["--tiny"] * tiny]
    began = time.monotonic()
    with contextlib.ExitStack() as processes:
        parity = Parity(config, device, amp_dtype)

        def start(subject: Subject) -> Apart:
            within = None
            if limit is not None:
                within = max(0.0, began + TO_BEGIN * limit - time.monotonic())
            apart = Apart(preset, subject.name, flags, within)
            processes.callback(apart.close)
            return apart

        starts = {s.name: functools.partial(start, s) for s in subjects if not s.obstacle}
        if together > 1:
            pool = processes.enter_context(ThreadPoolExecutor(together))
            starts = {name: pool.submit(call).result for name, call in starts.items()}
        for subject in subjects:
            result = results[subject.name]
            if subject.obstacle:
                result["skipped"] = subject.obstacle
                continue
            with failing(result):
                try:
                    apart = starts[subject.name]()
                except TooLate as reason:
                    result["skipped"] = str(reason)
                    continue
                told, sums = apart.began.pop("told"), apart.began.pop("sums")
                parity.check(subject, sums, half)
                result |= apart.began
                if together > 1:
                    del result["first_iteration_s"], result["warm_up_s"]
                if told:
                    result["note"] = "; ".join(told)
                there[subject.name] = apart
        del parity  # with its engines: the subjects have the device to themselves
        if device.type == "cuda":
            torch.cuda.empty_cache()
        if there:
            until = math.inf if limit is None else began + limit
            counts, times = take_turns(there, results, 1 if tiny else rounds, device, until)
    times = {name: pairs for name, pairs in times.items() if "failed" not in results[name]}
    compiled = [s.name for s in subjects if s.compiled and s.name in times]
    best = min(compiled, key=lambda name: median_of(times[name]), default=None)
    for name, pairs in times.items():
        totals, hosts = zip(*pairs, strict=True)
        bases = {base: base for base in times if base in BASELINES}
        bases |= {} if best is None else {BEST: best}
        results[name] |= {
            "iterations_per_round": counts[name],
            "seconds": spread(totals),
            "host_seconds": spread(hosts),
            "images_per_s": config.optim.batch_size / statistics.median(totals),
            "ratio_to": {
                called: spread([b[0] / t for b, t in zip(times[base], totals, strict=True)])
                for called, base in bases.items()
                if base != name
            },
        }
    return {
        "batch": config.optim.batch_size,
        "load_average": os.getloadavg()[0],
        BEST: best,
        "subjects": results,
    }


def take_turns(
    there: dict[str, Apart],
    results: dict[str, Any],
    rounds: int,
    device: torch.device,
    until: float = math.inf,
) -> tuple[dict[str, int], dict[str, list[tuple[float, float]]]]:
    """Rounds of all subjects, A B C A B C; one that breaks is out of them from then on.

    Args:
        there, results: the subjects', by name.
        rounds: at most; one at least.
        device: where.
        until: begin no other round from then on, by ``time.monotonic``.

    Returns:
        By subject the iterations of a turn, and the seconds of an iteration in each, with those
        after which the host was free.
    """
    counts: dict[str, int] = {}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in there}

    def each(run: Callable[[str, Apart], None]) -> None:
        for name in list(times):
            with failing(results[name]):
                run(name, there[name])
            if "failed" in results[name]:
                del times[name]

    whole = 10 if device.type == "cuda" else 1  # graphs have as many iterations

    def look(name: str, apart: Apart) -> None:
        counts[name] = whole * max(1, round(TURN_SECONDS / apart.timed(whole)[0] / whole))

    each(look)
    for number in range(rounds):
        if number > 0 and time.monotonic() > until:
            break
        each(lambda name, apart: times[name].append(apart.timed(counts[name])))
    return counts, times


@contextlib.contextmanager
def failing(result: dict[str, Any]) -> Iterator[None]:
    """A subject that breaks inside must not cost the others' numbers: ``result`` says why."""
    try:
        yield
    except Exception as error:
        result["failed"] = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"


def median_of(pairs: list[tuple[float, float]]) -> float:
    return statistics.median(total for total, _ in pairs)


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
