"""Everything worth knowing on a machine with a GPU, in short sessions, without a network.

Where the package is installed, from the checkout's root:

    python -m bench.gpu_check --out results --budget 570

or, with a wheel of it in SITE and nothing installed, from anywhere:

    BENCH_COMMIT=SHA PYTHONSAFEPATH=1 PYTHONPATH=SITE:CHECKOUT python -m bench.gpu_check ...

What is missing is listed before anything runs. With --budget no step is begun that doesn't fit what
is left of so many seconds; at the end it says what that leaves for another session, for its
--steps. Every step has a time limit; one that fails or takes too long is recorded and passed over.
When this ends, however that is, what it has started ends too. What is found is written at once to
--out (default: $OUT, else gpu_check), in few files:

    report.json    each step: running, ok, failed, too long, left or skipped; why, and its seconds
    report.txt     what all commands printed
    profile.json   python -m bench.profile_step, by preset
    training.json  python -m bench.training
    kernels.json   python -m bench.kernel_times: kernels in CUDA graphs, bytes a second
    learning.json  digits --amp: one seed by the clock, and a study of several
    pictures.zip   the study's pictures, and those of the run that it chose

--rehearse goes through everything on a CPU, on tiny sizes, in two minutes; it shows that this
works, nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bench.gpu_check import needs
from bench.gpu_check.check import Check
from bench.gpu_check.steps import run_step, steps_of

PRESETS = ("mnist", "chairs-rotation", "celeba")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the steps.

    Returns:
        The exit code: 1 if a step failed or took too long, 2 if none could be tried.
    """
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu_check", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "gpu_check")))
    parser.add_argument("--budget", type=float, default=float("inf"), metavar="SECONDS")
    parser.add_argument("--steps", nargs="+", metavar="STEP", help="default: all")
    parser.add_argument("--presets", nargs="+", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=15, help="of timing")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--jobs", type=int, default=5, help="seeds at a time")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes, a CPU will do")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    if packages := needs.missing():
        print(needs.advice(packages), file=sys.stderr)
        return 2
    options.presets = options.presets or (["mnist"] if options.rehearse else list(PRESETS))
    options.seeds = options.seeds or (2 if options.rehearse else 10)
    steps = steps_of(options.presets)
    for name in options.steps or ():
        if name not in steps:
            print(f"error: --steps {name}: {', '.join(steps)} work", file=sys.stderr)
            return 2
    # The other steps need to know what the first one finds.
    chosen = ["environment", *(n for n in options.steps or steps if n != "environment")]
    options.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, _end)
    with tempfile.TemporaryDirectory() as scratch:
        check = Check(options, Path(scratch))
        report = check.load("report.json")
        for name in chosen:
            left = options.budget - (time.monotonic() - began)
            now = datetime.now(timezone.utc).isoformat(timespec="seconds")
            report[name] = {"status": "running", "since": now}
            check.save("report.json", report)
            print(f"{name} ...", flush=True)
            report[name] = run_step(name, steps[name], check, left)
            check.save("report.json", report)
            print(f"{name}: {json.dumps(report[name])}", flush=True)
    if later := [name for name in chosen if report[name]["status"] == "left"]:
        print(f"left for another session: --steps {' '.join(later)}")
    return int(any(report[name]["status"] in ("failed", "too long") for name in chosen))


def _end(number: int, frame: Any) -> None:
    """SIGTERM, from whoever ran out of time: as Ctrl-C, so that commands are killed."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
