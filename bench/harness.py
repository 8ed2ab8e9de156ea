"""What the bench programs share: options, narrow presets, timing, spread, tables, results files."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from narrow import narrow_presets
from rich.console import Console
from torch import Tensor

from fastinfogan.device import pick_device, wait
from fastinfogan.files import atomic_write

RESULTS = Path(__file__).parent / "results"

# Where the benchmarks of single ops run, and the implementation that they are about.
DEVICE = pick_device("auto")
FUSED = "triton" if DEVICE.type == "cuda" else "native"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --device, --amp-dtype and --tiny."""
    parser.add_argument("--device", default="auto")
    parser.add_argument("--amp-dtype", default="auto", choices=("auto", "bfloat16", "float16"))
    parser.add_argument("--tiny", action="store_true", help="narrow networks, 8 images: a check")


def presets(tiny: bool) -> contextlib.AbstractContextManager[None]:
    """A context in which ``--tiny`` finds the narrow presets that it needs."""
    return narrow_presets() if tiny else contextlib.nullcontext()


def fastest(call: Callable[[], object], device: torch.device, runs: int = 10) -> float:
    """Seconds of the fastest of several runs, after one that doesn't count."""
    call()
    best = math.inf
    for _ in range(runs):
        wait(device)
        began = time.perf_counter()
        call()
        wait(device)
        best = min(best, time.perf_counter() - began)
    return best


def copy_seconds(moved: int) -> float:
    """Seconds that copy_ takes on DEVICE to move so many bytes, read and written."""
    source = torch.ones(moved // 8, device=DEVICE)
    target = torch.zeros_like(source)
    return fastest(lambda: target.copy_(source), DEVICE, runs=5)


def relative_error(got: Tensor, exact: Tensor) -> float:
    """Euclidean norm of the error over that of the exact result, in float64."""
    return ((got.double() - exact.double()).norm() / exact.double().norm()).item()


def spread(values: Sequence[float]) -> dict[str, float]:
    """n, min, quartiles, max of a measurement."""
    quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else None
    q1, median, q3 = quartiles or (values[0],) * 3
    return {
        "n": len(values), "min": min(values), "q1": q1, "median": median, "q3": q3,
        "max": max(values),
    }  # fmt: skip


def console(width: int) -> Console:
    """A console of the terminal's width, or of ``width`` where there is no terminal."""
    return Console(width=None if sys.stdout.isatty() else width)


def read_results(path: Path) -> dict[str, Any]:
    """What a results file holds; an empty dict if there is none yet."""
    return json.loads(path.read_text()) if path.exists() else {}


def write_results(path: Path, content: dict[str, Any]) -> None:
    """Write a results file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, (json.dumps(content, indent=1) + "\n").encode())
