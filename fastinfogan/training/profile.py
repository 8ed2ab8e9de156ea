"""``train --profile``: a trace of a few iterations, and the five most expensive things in it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from fastinfogan.files import atomic_write
from fastinfogan.kernels.dispatch import recorded

AFTER, ITERATIONS = 30, 10  # iterations of the session before the trace (warm-up); at most in it
TOP = 5


@contextlib.contextmanager
def traced(path: Path, device: torch.device, iterations: int) -> Iterator[list[str]]:
    """Profile what runs inside; then write the trace to ``path``, and a summary to the list.

    The trace is Chrome's JSON format, which ui.perfetto.dev and chrome://tracing show. The summary
    counts time on the device: an operation's own, without what it calls.

    Args:
        path: of the trace.
        device: where the iterations run.
        iterations: how many will, for the summary.
    """
    lines: list[str] = []
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with recorded(), profile(activities=activities) as profiler:
        yield lines
        if on_gpu:
            torch.cuda.synchronize(device)
    saved = _export(profiler, path)
    own = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    events = profiler.key_averages()
    if on_gpu:  # the kernels; an operation's row counts its kernels once more
        events = [
            e for e in events if e.device_type == DeviceType.CUDA and not e.is_user_annotation
        ]
    events = sorted(events, key=lambda event: -getattr(event, own))
    total = sum(getattr(event, own) for event in events) or 1.0
    if saved:
        lines.append(f"trace in {path} (open it at ui.perfetto.dev)")
    else:
        lines.append(f"{path} couldn't be written; is there room on the disk?")
    plural = "s" if iterations > 1 else ""
    lines.append(f"the {TOP} most expensive things in {iterations} iteration{plural}:")
    for event in events[:TOP]:
        spent = getattr(event, own)
        lines.append(f"  {spent / total:6.1%}  {spent / 1e3:9.1f} ms, {event.count} x {event.key}")


def _export(profiler: profile, path: Path) -> bool:
    """Write the trace so that it's there whole or not at all, and whether it is.

    The profiler can't write to names of any bytes, and doesn't say when it can't write.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / "trace.json"
            profiler.export_chrome_trace(str(written))
            atomic_write(path, written.read_bytes())
    except OSError:
        return False
    return True
