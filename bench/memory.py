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

from bench.floor import synchronize
from bench.subjects import Runner, all_subjects, config_of
from fastinfogan.device import pick_device
from fastinfogan.engine.graph import WARMUP


def peak_bytes(device: torch.device) -> int:
    """Since the process began."""
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
    parser.add_argument("--device", default="auto")
    parser.add_argument("--amp-dtype", default="auto")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    device = pick_device(options.device)
    if options.tiny:
        import pytest
        from narrow import add_narrow_presets

        add_narrow_presets(pytest.MonkeyPatch())
    found = {subject.name: subject for subject in all_subjects(device, options.amp_dtype)}
    before = peak_bytes(device)
    runner = Runner(found[options.subject], config_of(options.preset, options.tiny), device)
    runner.run(WARMUP + 20 if device.type == "cuda" else 3)
    synchronize(device)
    print(json.dumps({"peak_bytes": peak_bytes(device), "before_bytes": before}))


if __name__ == "__main__":
    main()
