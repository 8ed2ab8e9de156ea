"""One subject in a process of its own: ``python -m bench.one_subject mnist ours``.

It warms up and answers with a line of JSON; then each line of input, a number of iterations, is
answered with their times. ``processes.Apart`` is the other end.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from typing import Any

import torch

from bench import harness
from bench.memory import peak_bytes
from bench.runner import Runner, config_of, timed
from bench.subjects import Subject, all_subjects
from fastinfogan.config import TrainConfig
from fastinfogan.device import pick_device, wait
from fastinfogan.engine.graph import WARMUP


def begin(
    subject: Subject, config: TrainConfig, device: torch.device
) -> tuple[Runner, dict[str, Any]]:
    """Build a subject's engine and run its first iterations.

    Returns:
        What runs it; and the seconds of the first iteration, which includes compiling with whatever
        the compilers' caches hold, and of all of them; the ``sums`` of the first one's losses, what
        the user was told, and the most memory taken, with what was there before.
    """
    before = peak_bytes(device)
    runner = Runner(subject, config, device)
    began = time.perf_counter()
    runner.run(1)
    wait(device)
    first, sums = time.perf_counter() - began, runner.sums.tolist()
    # On a GPU: up to the recording of graphs, the recording, and a few replays.
    runner.run(WARMUP + 20 if device.type == "cuda" else 2)
    wait(device)
    return runner, {
        "first_iteration_s": first,
        "warm_up_s": time.perf_counter() - began,
        "sums": sums,
        "told": runner.told,
        "memory": {"peak_bytes": peak_bytes(device), "before_bytes": before},
    }


def main() -> None:
    """Begin, then answer until the input ends: whoever asked is gone, or needs no more."""
    parser = argparse.ArgumentParser(prog="python -m bench.one_subject", description=__doc__)
    parser.add_argument("preset")
    parser.add_argument("subject")
    parser.add_argument("--optim", default="{}", help="JSON: fields of the configuration's optim")
    harness.add_options(parser)
    options = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what compilers print must not look like an answer
    device = pick_device(options.device)
    found = {subject.name: subject for subject in all_subjects(device, options.amp_dtype)}
    with harness.presets(options.tiny):
        config = config_of(options.preset, options.tiny)
        config = replace(config, optim=replace(config.optim, **json.loads(options.optim)))
        runner, answer = begin(found[options.subject], config, device)
    print(json.dumps(answer), file=answers, flush=True)
    for line in sys.stdin:
        if device.type == "cuda":  # the turn before was another process's
            timed(runner, 10, device)
        print(json.dumps(timed(runner, int(line), device)), file=answers, flush=True)


if __name__ == "__main__":
    main()
