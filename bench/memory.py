"""Peak memory of training, for a process of its own: ``python -m bench.memory mnist ours``.

On a CPU the process's resident set, and how much of it was there before the engine; on a GPU what
torch's allocator has given out at most.
"""

from __future__ import annotations

import argparse
import json
import resource
from pathlib import Path

import torch

from bench import harness
from bench.runner import Runner, config_of
from bench.subjects import all_subjects
from fastinfogan.device import pick_device, wait
from fastinfogan.engine.graph import WARMUP


def peak_bytes(device: torch.device) -> int:
    """The most memory that this process has taken so far, in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        # Not getrusage: on Linux its maximum begins with that of the parent process.
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def main() -> None:
    """Train for a few iterations and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("preset")
    parser.add_argument("subject")
    harness.add_options(parser)
    options = parser.parse_args()
    device = pick_device(options.device)
    found = {subject.name: subject for subject in all_subjects(device, options.amp_dtype)}
    before = peak_bytes(device)
    with harness.presets(options.tiny):
        config = config_of(options.preset, options.tiny)
        runner = Runner(found[options.subject], config, device)
    runner.run(WARMUP + 20 if device.type == "cuda" else 3)
    wait(device)
    print(json.dumps({"peak_bytes": peak_bytes(device), "before_bytes": before}))


if __name__ == "__main__":
    main()
