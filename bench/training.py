"""Training speed on this machine: engines side by side, with their ablations, floor and memory.

    python -m bench.training --presets mnist celeba

Each subject (see subjects.py) has a process of its own, and first shows that its losses are right.
Then rounds of all subjects of a preset take turns, A B C A B C, so that whatever slows the machine
down slows all of them; a ratio is the median over the rounds of two neighbours' times. Warm-up is
apart. Prints a table and brings bench/results/DEVICE.json up to date, preset by preset, each with
what it was measured on; but not where only some of the subjects run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bench import harness, machine
from bench.floor import Meter
from bench.processes import measure_command, measure_training
from bench.steps import measure_steps
from bench.subjects import Subject, all_subjects, amp_type
from bench.table import remarks_of, table_of
from fastinfogan.config import PRESETS
from fastinfogan.device import pick_device

DEFAULT_PRESETS = ("mnist", "celeba", "mnist-mlp", "faces-azimuth")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for.

    Returns:
        The exit code: 1 if a subject failed, 2 if something is asked for that isn't there.
    """
    options = _options(arguments)
    device = pick_device(options.device)
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
    with harness.presets(options.tiny):
        return measure(options, device, subjects)


def measure(options: argparse.Namespace, device: torch.device, subjects: list[Subject]) -> int:
    """Measure the subjects on the presets, and the command; print and keep what is found.

    Returns:
        1 if a subject failed, else 0.
    """
    half = amp_type(device, options.amp_dtype)
    console = harness.console(width=140)
    dtypes = [torch.float32, *([half] if half else [])]
    meter = Meter(device, dtypes, small=options.tiny)
    on = machine.describe(device)
    path = options.out
    if path is None and not (options.tiny or options.only):
        path = harness.RESULTS / f"{machine.slug(on['hardware'])}.json"
    # What isn't measured now stays.
    result: dict[str, Any] = {"presets": {}} | ({} if path is None else harness.read_results(path))
    failed = False
    for preset in options.presets:
        measured = measure_steps(
            preset, subjects, options.rounds, device, options.amp_dtype, options.tiny,
            options.together, options.limit, meter,
        )  # fmt: skip
        result["presets"][preset] = {"on": on, **measured}
        console.print(table_of(preset, measured))
        for remark in remarks_of(measured):
            console.print(f"  {remark}", highlight=False)
        failed |= any("failed" in found for found in measured["subjects"].values())
        if path is not None:
            harness.write_results(path, result)
    if options.command:
        flags = ["--device", options.device]
        if half is not None:
            flags += ["--amp", "--amp-dtype", options.amp_dtype]
        first = measure_command(flags, repeats=2)
        training = measure_training(options.command, flags)
        result["command"] = {"on": on, "flags": flags, "to_first_iteration": first, **training}
        console.print(f"command to first iteration: {first}", highlight=False)
        console.print(f"training: {training}", highlight=False)
        if path is not None:
            harness.write_results(path, result)
    if path is not None:
        console.print(f"written to {path}", highlight=False, soft_wrap=True)
    return int(failed)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.training", description=__doc__)
    harness.add_options(parser)
    parser.add_argument(
        "--presets", nargs="*", default=DEFAULT_PRESETS, metavar="NAME", help="none: no steps"
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument(
        "--together", type=int, default=1, metavar="COUNT",
        help="subjects that warm up at a time: quicker, but their first iterations aren't timed",
    )  # fmt: skip
    parser.add_argument(
        "--limit", type=float, metavar="SECONDS",
        help="for each preset: fewer rounds, without subjects that take long to begin",
    )  # fmt: skip
    parser.add_argument("--only", nargs="+", metavar="SUBJECT", help="writes no results file")
    parser.add_argument(
        "--command", type=int, default=0, metavar="ITERATIONS",
        help="also time the command to its first iteration, and training for so many iterations",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
