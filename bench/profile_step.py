"""Where an iteration of ours goes: every kernel, the gaps between them, the distance to the floor.

    python -m bench.profile_step mnist ours-amp --out profile.json

On a GPU a few replays of the recorded iterations are traced. On a CPU there are no gaps to speak
of, and the table has torch's operations, each without what it calls.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from bench import harness, machine
from bench.floor import Meter, work_of
from bench.runner import Runner, config_of, timed
from bench.subjects import Subject, all_subjects, amp_type
from fastinfogan.config import PRESETS
from fastinfogan.device import pick_device, wait
from fastinfogan.engine.graph import WARMUP
from fastinfogan.kernels.dispatch import recorded

ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")  # categories of Chrome's trace format
ITERATIONS, ROUNDS = 20, 10
GAPS = 10  # listed, the longest


def timeline(events: Iterable[dict[str, Any]], iterations: int) -> dict[str, Any]:
    """What a device did in a number of iterations.

    Args:
        events: of Chrome's trace format, with name, ts and dur, in µs, and args: of a kernel its
            grid, block, registers, shared memory and occupancy, of all their stream.
        iterations: how many the events are of.

    Returns:
        In µs an iteration: ``span_us``, from the first event's start to the last one's end;
        ``busy_us``, the part of it in which something ran; ``gap_us``, the rest; ``overlap_us``,
        what ran beside something else. Then ``kernels``, by name and what was launched, the longest
        first, with their share of all kernels' time and the number of ``streams`` that they ran on
        (a replayed graph has its own for every branch of every iteration); and the longest
        ``gaps``, in µs each.
    """
    events = sorted(events, key=lambda event: event["ts"])
    rows: dict[str, dict[str, Any]] = {}
    streams: dict[str, set[int | None]] = defaultdict(set)
    gaps: list[dict[str, Any]] = []
    busy, end, last = 0.0, None, ""
    for event in events:
        start, stop = event["ts"], event["ts"] + event["dur"]
        launched = launch_of(event)
        key = json.dumps(launched)
        row = rows.setdefault(key, {**launched, "calls": 0, "us": 0.0})
        streams[key].add(event.get("args", {}).get("stream"))
        row["calls"] += 1
        row["us"] += event["dur"]
        if end is not None and start > end:
            gaps.append({"us": start - end, "after": last, "before": event["name"]})
        if end is None or stop > end:
            busy += stop - (start if end is None else max(start, end))
            end, last = stop, event["name"]
    span = end - events[0]["ts"] if events else 0.0
    total = sum(row["us"] for row in rows.values())
    for key, row in rows.items():
        row["streams"] = len(streams[key])
        row["share"] = row["us"] / total
        row["calls"] /= iterations
        row["us"] /= iterations
    return {
        "span_us": span / iterations,
        "busy_us": busy / iterations,
        "gap_us": (span - busy) / iterations,
        "overlap_us": (total - busy) / iterations,
        "kernels": sorted(rows.values(), key=lambda row: -row["us"]),
        "gaps": sorted(gaps, key=lambda gap: -gap["us"])[:GAPS],
    }


def launch_of(event: dict[str, Any]) -> dict[str, Any]:
    """A traced kernel's name and what it was launched with; a copy's has no grid.

    ``occupancy`` is the share of an SM's warps that it fills, in percent, as the profiler estimates
    it from registers, shared memory and the grid; ``registers`` are a thread's, ``shared`` bytes.
    """
    args = event.get("args", {})
    return {
        "name": event["name"],
        "grid": args.get("grid"),
        "block": args.get("block"),
        "registers": args.get("registers per thread"),
        "shared": args.get("shared memory"),
        "occupancy": args.get("est. achieved occupancy %"),
    }


def trace(runner: Runner, device: torch.device, iterations: int) -> dict[str, Any]:
    """Profile ``iterations`` iterations of a runner that is warm."""
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with recorded(), profile(activities=activities) as profiler:
        runner.run(iterations)
        wait(device)
    if on_gpu:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, "trace.json")
            profiler.export_chrome_trace(str(path))
            events = json.loads(path.read_text())["traceEvents"]
        return timeline((e for e in events if e.get("cat") in ON_DEVICE), iterations)
    ops = [(op.key, op.count, op.self_cpu_time_total) for op in profiler.key_averages()]
    total = sum(us for _, _, us in ops)
    kernels = [
        {"name": name, "calls": count / iterations, "us": us / iterations, "share": us / total}
        for name, count, us in sorted(ops, key=lambda op: -op[2])
    ]
    return {"busy_us": total / iterations, "kernels": kernels}


def table_of(found: dict[str, Any]) -> Table:
    """The profile for people."""
    iteration, floor = found["iteration_us"], found["floor_us"]
    title = f"{found['preset']}, {found['subject']}, {found['dtype']}: {iteration:,.0f} µs"
    title += f" an iteration, {iteration / floor:.2f} x the floor of {floor:,.0f} µs"
    if "gap_us" in found:
        title += f"; traced: busy {found['busy_us']:,.0f}, gaps {found['gap_us']:,.0f}"
        title += f", overlap {found['overlap_us']:,.0f} µs"
    table = Table(title=title, title_justify="left")
    table.add_column("kernel", overflow="ellipsis", no_wrap=True)
    launched = ("grid", "streams", "registers", "occupancy") if "gap_us" in found else ()
    for heading in (*launched, "calls", "µs", "µs each", "share"):
        table.add_column(heading, justify="right")
    for kernel in found["kernels"]:
        how = [kernel[name] for name in launched]
        how = ["x".join(map(str, h)) if isinstance(h, list) else f"{h}" for h in how]
        calls, us = kernel["calls"], kernel["us"]
        table.add_row(
            kernel["name"], *(h.replace("None", "") for h in how), f"{calls:g}", f"{us:,.1f}",
            f"{us / calls:,.2f}", f"{kernel['share']:.1%}",
        )  # fmt: skip
    return table


def profile_of(
    preset: str, subject: Subject, dtype: torch.dtype, device: torch.device, tiny: bool
) -> dict[str, Any]:
    """Time and trace one subject's iterations.

    Args:
        preset: the preset's name.
        subject: what runs.
        dtype: of its passes.
        device: where it runs.
        tiny: take the narrow preset.

    Returns:
        What goes into the file of ``--out``.
    """
    config = config_of(preset, tiny)
    runner = Runner(subject, config, device)
    on_gpu = device.type == "cuda"
    runner.run(WARMUP + ITERATIONS if on_gpu else 2)
    count = ITERATIONS if on_gpu else 2
    undisturbed = min(timed(runner, count, device)[0] for _ in range(ROUNDS if on_gpu else 3))
    rates = Meter(device, [dtype], small=tiny).measure(runs=10)
    name = str(dtype).removeprefix("torch.")
    found = {
        **machine.describe(device),
        "preset": preset,
        "subject": subject.name,
        "dtype": name,
        "iteration_us": 1e6 * undisturbed,  # without the profiler
        "floor_us": 1e6 * rates.floor(work_of(config), name),
        **trace(runner, device, count),
    }
    if runner.told:
        found["note"] = "; ".join(runner.told)
    return found


def main() -> int:
    """Profile one preset."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile_step", description=__doc__)
    harness.add_options(parser)
    parser.add_argument("preset", choices=PRESETS, metavar="PRESET")
    parser.add_argument("subject", nargs="?", default="ours", metavar="SUBJECT")
    parser.add_argument("--out", type=Path, metavar="FILE")
    options = parser.parse_args()
    device = pick_device(options.device)
    subjects = {s.name: s for s in all_subjects(device, options.amp_dtype)}
    subject = subjects.get(options.subject)
    if subject is None or subject.obstacle:
        why = subject.obstacle if subject else f"{', '.join(subjects)} work"
        print(f"{options.subject}: {why}", file=sys.stderr)
        return 2
    dtype = amp_type(device, options.amp_dtype) if subject.amp else torch.float32
    with harness.presets(options.tiny):
        found = profile_of(options.preset, subject, dtype, device, options.tiny)
    harness.console(width=160).print(table_of(found))
    if options.out is not None:
        harness.write_results(options.out, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
