"""Training speed on this machine: engines side by side, with their ablations, floor and memory.

    python -m bench.training --presets mnist celeba

Each subject (see subjects.py) first shows that its losses are right. Then rounds of all subjects of
a preset take turns, A B C A B C, so that whatever slows the machine down slows all of them; a ratio
is the median over the rounds of two neighbours' times. Warm-up is apart. Prints a table and brings
bench/results/DEVICE.json up to date, preset by preset, each with what it was measured on; but not
where only some of the subjects run.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bench import machine
from bench.floor import Rates, measure_rates, synchronize, work_of
from bench.subjects import Parity, Runner, Subject, all_subjects, amp_type, config_of
from fastinfogan.config import PRESETS
from fastinfogan.device import pick_device
from fastinfogan.engine.graph import WARMUP
from fastinfogan.files import atomic_write

RESULTS = Path(__file__).parent / "results"
DEFAULT_PRESETS = ("mnist", "celeba", "mnist-mlp", "faces-azimuth")
ROUND_SECONDS = 0.1  # a round has as many iterations as the fastest subject does in this time
BASELINES = (
    "reference", "reference-autocast", "reference-compile", "reference-reduce-overhead", "ours",
    "ours-amp",
)  # fmt: skip


def spread(values: Sequence[float]) -> dict[str, float]:
    """n, min, quartiles, max of a measurement."""
    quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else None
    q1, median, q3 = quartiles or (values[0],) * 3
    return {
        "n": len(values), "min": min(values), "q1": q1, "median": median, "q3": q3,
        "max": max(values),
    }  # fmt: skip


# -- The step ------------------------------------------------------------------------------------


def warm_up(subject: Subject, runner: Runner, parity: Parity, half, device) -> dict[str, float]:
    """First iterations, and the check of the losses of the very first. Seconds."""
    began = time.perf_counter()
    runner.run(1)
    synchronize(device)
    first = time.perf_counter() - began
    parity.check(subject, runner, half)
    began = time.perf_counter()
    # On a GPU: up to the recording of graphs, the recording, and a few replays.
    runner.run(WARMUP + 20 if device.type == "cuda" else 2)
    synchronize(device)
    return {"first_iteration_s": first, "warm_up_s": first + time.perf_counter() - began}


def timed(runner: Runner, count: int, device: torch.device) -> tuple[float, float]:
    """Seconds of one iteration out of ``count``, and those after which the host was free."""
    synchronize(device)
    began = time.perf_counter()
    runner.run(count)
    host = time.perf_counter() - began
    synchronize(device)
    return (time.perf_counter() - began) / count, host / count


def measure_steps(
    preset: str, subjects: list[Subject], rounds: int, device: torch.device, half, tiny: bool
) -> dict[str, Any]:
    """Times of every subject's iterations on one preset."""
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
    """The floor in each dtype, and how much of an iteration's time it is."""
    work = work_of(config_of(preset, tiny))
    measured |= {"flop": work.flop, "parameters": work.parameters, "floor_s": {}}
    for result in measured["subjects"].values():
        if "seconds" not in result:
            continue
        dtype = str(half).removeprefix("torch.") if result["amp"] else "float32"
        floor = rates.floor(work, dtype)
        measured["floor_s"][dtype] = floor
        result["floor_fraction"] = floor / result["seconds"]["median"]


# -- Whole processes -----------------------------------------------------------------------------


def peak_memory(preset: str, subject: str, arguments: list[str]) -> dict[str, int | str]:
    """Bytes that training takes at most, in a process of its own (see memory.py)."""
    command = [sys.executable, "-m", "bench.memory", preset, subject, *arguments]
    done = subprocess.run(command, cwd=machine.ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def seconds_to_first_iteration(flags: list[str], caches: Path) -> float:
    """From the command ``fastinfogan train`` to the first iteration's line in metrics.jsonl."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "run")
        command = [sys.executable, "-m", "fastinfogan", "train", "--iterations", "1"]
        environment = {
            **os.environ,
            "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
            "TRITON_CACHE_DIR": str(caches / "triton"),
        }
        began = time.perf_counter()
        # Not in the checkout: there `-m` would find a fastinfogan without kernels.
        process = subprocess.Popen(
            [*command, "--out", str(out), *flags], cwd=scratch, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            while True:
                with contextlib.suppress(OSError):
                    if (out / "metrics.jsonl").stat().st_size:
                        return time.perf_counter() - began
                if process.poll() not in (None, 0):
                    raise RuntimeError(process.stdout.read()[-500:])
                time.sleep(0.002)
        finally:
            process.kill()
            process.wait()


def measure_command(amp: list[str], repeats: int) -> dict[str, list[float]]:
    """Seconds to the first iteration: ``cold``, with empty compile caches; ``warm``, after that."""
    with tempfile.TemporaryDirectory() as caches:
        times = [seconds_to_first_iteration(amp, Path(caches)) for _ in range(1 + repeats)]
    return {"cold_s": times[:1], "warm_s": times[1:]}


def measure_training(iterations: int, amp: list[str]) -> dict[str, float]:
    """``fastinfogan train`` on digits: images a second between log lines, and of the whole run."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "run")
        every = max(1, iterations // 10)
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "fastinfogan", "train", "--iterations", str(iterations),
             "--out", str(out), "--log-every", str(every), "--sample-every", "0", *amp],
            cwd=scratch, check=True, capture_output=True,
        )  # fmt: skip
        whole = time.perf_counter() - began
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    speeds = [row["images_per_s"] for row in rows]
    return {
        "iterations": iterations,
        "command_s": whole,
        # The first interval has the warm-up in it (and, on a GPU, compilation and recording).
        "images_per_s": spread(speeds[1:] or speeds),
    }


# -- Table and file ------------------------------------------------------------------------------


def table_of(preset: str, measured: dict[str, Any]) -> Table:
    """One preset's results for people."""
    floors = ", ".join(f"{dtype} {_ms(s)}" for dtype, s in measured["floor_s"].items())
    title = f"{preset}, batch {measured['batch']}: {measured['flop'] / 1e9:.3g} GFLOP an iteration"
    table = Table(title=f"{title}; floor: {floors or 'none'}", title_justify="left")
    table.add_column("subject", no_wrap=True)
    headings = (
        "ms, median", "quartiles", "images/s", "x reference", "x compiled", "x ours",
        "of the floor", "first, s", "peak MB",
    )  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, result in measured["subjects"].items():
        if "seconds" not in result:
            table.add_row(name, "failed" if "failed" in result else "skipped")
            continue
        seconds = result["seconds"]
        ratios = result["ratio_to"]
        memory = result.get("memory", {}).get("peak_bytes")
        table.add_row(
            name,
            _ms(seconds["median"], ""),
            f"{_ms(seconds['q1'], '')}-{_ms(seconds['q3'], '')}",
            f"{result['images_per_s']:,.0f}",
            *(
                f"{ratios[base]['median']:.2f}" if base in ratios else ""
                for base in ("reference", "reference-compile", "ours")
            ),
            f"{result['floor_fraction']:.0%}",
            f"{result['first_iteration_s']:.2f}",
            "" if memory is None else f"{memory / 1e6:,.0f}",
        )
    return table


def remarks_of(measured: dict[str, Any]) -> list[str]:
    """Why there are subjects without numbers."""
    return [
        f"{name} {kind}: {result[kind]}"
        for name, result in measured["subjects"].items()
        for kind in ("skipped", "failed", "note")
        if kind in result
    ]


def _ms(seconds: float, unit: str = " ms") -> str:
    milliseconds = seconds * 1e3
    digits = max(0, 2 - math.floor(math.log10(milliseconds))) if milliseconds > 0 else 0
    return f"{milliseconds:.{min(digits, 3)}f}{unit}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for. Exit code 1 if a subject failed."""
    options = _options(arguments)
    device = pick_device(options.device)
    if options.tiny:
        import pytest
        from narrow import add_narrow_presets

        add_narrow_presets(pytest.MonkeyPatch())
    for preset in options.presets:
        if preset not in PRESETS:
            print(f"--presets {preset}: {', '.join(PRESETS)} work", file=sys.stderr)
            return 2
    subjects = all_subjects(device, options.amp_dtype)
    known = {subject.name: subject for subject in subjects}
    for name in options.only or ():
        if name not in known:
            print(f"--only {name}: {', '.join(known)} work here", file=sys.stderr)
            return 2
    if options.only:
        subjects = [known[name] for name in options.only]
    half = amp_type(device, options.amp_dtype)
    console = Console(width=None if sys.stdout.isatty() else 140)
    dtypes = [torch.float32, *([half] if half else [])]
    rates = measure_rates(device, dtypes, small=options.tiny)
    on = {
        **machine.describe(device),
        "rates": {"flop_per_s": rates.flop_per_s, "copy_bytes_per_s": rates.bytes_per_s},
    }
    path = options.out
    if path is None and not (options.tiny or options.only):
        path = RESULTS / f"{machine.slug(on['hardware'])}.json"
    result: dict[str, Any] = {"presets": {}}
    if path is not None and path.exists():
        result = json.loads(path.read_text())  # what isn't measured now stays

    def save() -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, (json.dumps(result, indent=1) + "\n").encode())

    failed = False
    for preset in options.presets:
        measured = measure_steps(preset, subjects, options.rounds, device, half, options.tiny)
        add_floor(measured, preset, rates, half, options.tiny)
        gc.collect()
        torch._dynamo.reset()  # frees what was compiled, with the memory of its graphs
        if device.type == "cuda":
            torch.cuda.empty_cache()
        if not options.no_memory:
            flags = ["--device", options.device, "--amp-dtype", options.amp_dtype]
            for name in ("reference", "ours", "ours-amp"):
                if "seconds" in measured["subjects"].get(name, {}):
                    measured["subjects"][name]["memory"] = peak_memory(
                        preset, name, flags + ["--tiny"] * options.tiny
                    )
        result["presets"][preset] = {"on": on, **measured}
        console.print(table_of(preset, measured))
        for remark in remarks_of(measured):
            console.print(f"  {remark}", highlight=False)
        failed |= any("failed" in found for found in measured["subjects"].values())
        save()
    if options.command:
        amp = ["--device", options.device]
        if half is not None:
            amp += ["--amp", "--amp-dtype", options.amp_dtype]
        first, training = measure_command(amp, repeats=2), measure_training(options.command, amp)
        result["command"] = {"on": on, "flags": amp, "to_first_iteration": first, **training}
        save()
        console.print(f"command to first iteration: {first}", highlight=False)
        console.print(f"training: {training}", highlight=False)
    if path is not None:
        console.print(f"written to {path}", highlight=False, soft_wrap=True)
    return int(failed)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.training", description=__doc__)
    parser.add_argument(
        "--presets", nargs="*", default=DEFAULT_PRESETS, metavar="NAME", help="none: no steps"
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", nargs="+", metavar="SUBJECT", help="writes no results file")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--amp-dtype", default="auto", choices=("auto", "bfloat16", "float16"))
    parser.add_argument("--tiny", action="store_true", help="narrow networks, one round: a check")
    parser.add_argument("--no-memory", action="store_true", help="don't measure peak memory")
    parser.add_argument(
        "--command", type=int, default=0, metavar="ITERATIONS",
        help="also time the command to its first iteration, and training for so many iterations",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
