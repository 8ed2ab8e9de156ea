"""What our additions to the paper cost: iterations of ours, taking turns.

    python -m bench.additions --preset mnist --rounds 15

Prints medians, and ratios to the paper's objective; writes bench/results/additions-DEVICE.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence

from bench import machine
from bench.harness import RESULTS, add_options, spread
from bench.processes import Apart
from bench.subjects import all_subjects
from fastinfogan.device import pick_device
from fastinfogan.files import atomic_write
from fastinfogan.training.average import EVERY

PAPER = {"consistency": 0.0, "augment": False, "average": 0, "contrastive": 0.0}
ADDITIONS = {
    "paper": PAPER,
    "consistency": {**PAPER, "consistency": 1.0},
    "augment": {**PAPER, "augment": True},
    "average": {**PAPER, "average": 100},
    "contrastive": {**PAPER, "contrastive": 1.0},
    # As in the preset digits, which asks for categories and has no pairs.
    "all": {**PAPER, "consistency": 1.0, "augment": True, "average": 100},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m bench.additions", description=__doc__)
    add_options(parser)
    parser.add_argument("--preset", default="mnist")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args(arguments)
    device = pick_device(options.device)
    measured = {}
    flags = ["--device", str(device), "--amp-dtype", options.amp_dtype, *["--tiny"] * options.tiny]
    for subject in all_subjects(device, options.amp_dtype):
        if subject.name not in ("ours", "ours-amp") or subject.obstacle:
            continue
        with contextlib.ExitStack() as processes:
            times = {name: [] for name in ADDITIONS}
            there = {}
            for name, optim in ADDITIONS.items():
                flag = ["--optim", json.dumps(optim)]
                there[name] = Apart(options.preset, subject.name, flags + flag)
                processes.callback(there[name].close)
            for _ in range(1 if options.tiny else options.rounds):
                for name, apart in there.items():
                    times[name].append(apart.timed(EVERY)[0])
        paper = times["paper"]
        measured[subject.name] = {
            name: {
                "seconds": spread(seconds),
                "ratio_to_paper": spread([a / b for a, b in zip(seconds, paper, strict=True)]),
            }
            for name, seconds in times.items()
        }
        for name, found in measured[subject.name].items():
            milliseconds, ratio = 1e3 * found["seconds"]["median"], found["ratio_to_paper"]
            print(
                f"{subject.name:<10}{name:<13}{milliseconds:8.1f} ms{ratio['median']:7.2f} x "
                f"({ratio['q1']:.2f} to {ratio['q3']:.2f}, n = {ratio['n']})"
            )
    if not options.tiny:
        on = machine.describe(device)
        path = RESULTS / f"additions-{machine.slug(on['hardware'])}.json"
        content = {"on": on, "preset": options.preset, "subjects": measured}
        atomic_write(path, (json.dumps(content, indent=1) + "\n").encode())
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
