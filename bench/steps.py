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

from bench.floor import Meter, Rates, Work, work_of
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
    meter: Meter | None = None,
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
        meter: measures the machine's rates as each round begins, for the floor; None: no floor.

    Returns:
        What results files hold of a preset.
    """
    config = config_of(preset, tiny)
    half = amp_type(device, amp_dtype)
    results: dict[str, Any] = {s.name: {"says": s.says, "amp": s.amp} for s in subjects}
    there: dict[str, Apart] = {}
    times: dict[str, list[tuple[float, float]]] = {}
    rates: list[Rates] = []
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
            counts, times, rates = take_turns(
                there, results, 1 if tiny else rounds, device, until, meter
            )
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
        **({} if meter is None else _floor(results, times, rates, work_of(config), half)),
        "subjects": results,
    }


def take_turns(
    there: dict[str, Apart],
    results: dict[str, Any],
    rounds: int,
    device: torch.device,
    until: float = math.inf,
    meter: Meter | None = None,
) -> tuple[dict[str, int], dict[str, list[tuple[float, float]]], list[Rates]]:
    """Rounds of all subjects, A B C A B C; one that breaks is out of them from then on.

    Args:
        there, results: the subjects', by name.
        rounds: at most; one at least.
        device: where.
        until: begin no other round from then on, by ``time.monotonic``.
        meter: measures the machine's rates as each round begins.

    Returns:
        By subject the iterations of a turn, and the seconds of an iteration in each, with those
        after which the host was free; and the rates of each round.
    """
    counts: dict[str, int] = {}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in there}
    rates: list[Rates] = []

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
        if meter is not None:
            rates.append(meter.measure())
        each(lambda name, apart: times[name].append(apart.timed(counts[name])))
    return counts, times, rates


@contextlib.contextmanager
def failing(result: dict[str, Any]) -> Iterator[None]:
    """A subject that breaks inside must not cost the others' numbers: ``result`` says why."""
    try:
        yield
    except Exception as error:
        result["failed"] = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"


def median_of(pairs: list[tuple[float, float]]) -> float:
    return statistics.median(total for total, _ in pairs)


def _floor(
    results: dict[str, Any],
    times: dict[str, list[tuple[float, float]]],
    rates: list[Rates],
    work: Work,
    half: torch.dtype | None,
) -> dict[str, Any]:
    """The floor in each dtype by the rates of the rounds; adds its share of each subject's time."""
    floors: dict[str, list[float]] = {}
    for name, pairs in times.items():
        dtype = str(half).removeprefix("torch.") if results[name]["amp"] else "float32"
        floors[dtype] = [one.floor(work, dtype) for one in rates]
        shares = [floor / total for floor, (total, _) in zip(floors[dtype], pairs, strict=True)]
        results[name]["floor_fraction"] = statistics.median(shares)
    found: dict[str, Any] = {
        "flop": work.flop,
        "parameters": work.parameters,
        "floor_s": {dtype: statistics.median(seconds) for dtype, seconds in floors.items()},
    }
    if rates:  # some subject could begin
        found["rates"] = {
            "flop_per_s": {
                dtype: spread([one.flop_per_s[dtype] for one in rates])
                for dtype in rates[0].flop_per_s
            },
            "copy_bytes_per_s": spread([one.bytes_per_s for one in rates]),
        }
    return found
