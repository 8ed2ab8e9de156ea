"""How close kernels come to the bandwidth of a copy, as an iteration runs them: in a CUDA graph.

    python -m bench.kernel_times --out kernels.json

A graph holds many launches, on inputs that take turns, so that none finds its own in the cache.
``bn_act`` is timed on the presets' layers, forward, and forward with backward; Adam on their
networks. Bytes are what an op can't do without: of ``bn_act`` x read and y written, then dy and x
read and dx written. A copy that moves as many is timed the same way, beside it. (On a CPU there is
no graph: that shows that the program works.)
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from bench import harness, machine
from bench.asked import bn_act_shapes
from bench.harness import DEVICE, FUSED
from bench.runner import config_of
from fastinfogan.engine.flat import FlatAdam
from fastinfogan.kernels.bn_act import bn_act
from fastinfogan.model.networks import Discriminator, Generator

ROTATED = 256 * 2**20  # bytes of inputs that take turns: more than any second-level cache
MOST_TURNS = 32
LAUNCHES = 64  # in a graph
REPLAYS = 10
LIKE_COPY = 4 * 2**20  # bytes of x from which on bn_act should be as fast as a copy


@dataclass(frozen=True)
class Case:
    """Something to time.

    Attributes:
        name: its name.
        shape: for people.
        moved: bytes that it can't do without.
        make: makes a call on inputs of its own.
    """

    name: str
    shape: str
    moved: int
    make: Callable[[], Callable[[], object]]


def bn_act_cases(dtype: torch.dtype, tiny: bool) -> Iterator[Case]:
    """Every shape of the presets, in training."""
    for rows, channels in bn_act_shapes()[:: 8 if tiny else 1]:
        rows = 64 if tiny else rows

        def make(
            backward: bool, rows: int = rows, channels: int = channels
        ) -> Callable[[], object]:
            x = torch.randn(rows, channels, device=DEVICE, dtype=dtype).requires_grad_(backward)
            numbers = [torch.ones(channels, device=DEVICE) for _ in range(4)]
            dy = torch.randn_like(x)
            learned = [t.requires_grad_(backward) for t in numbers[:2]]

            def call() -> object:
                y = bn_act(x, *learned, *numbers[2:], 0.1, impl=FUSED)
                return torch.autograd.grad(y, [x, *learned], dy) if backward else y

            return call

        size, shape = rows * channels * dtype.itemsize, f"{rows} x {channels}"
        for name, passes, backward in (("bn_act", 2, False), ("bn_act, both ways", 5, True)):
            yield Case(name, shape, passes * size, functools.partial(make, backward))


def adam_cases(dtype: torch.dtype, presets: list[str], tiny: bool) -> Iterator[Case]:
    """Both networks of the presets: 24 bytes a parameter, and 4 of gradient, or 2 and 2 of copy."""
    half = None if dtype == torch.float32 else dtype
    for preset in presets:
        config = config_of(preset, tiny)
        architecture, spec = config.architecture, config.spec
        for name, build in (
            ("G", lambda a=architecture, s=spec: Generator(a, s)),
            ("D and Q", lambda a=architecture, s=spec: Discriminator(a, s, separate_q=False)),
        ):

            def make(build: Callable[[], torch.nn.Module] = build) -> Callable[[], object]:
                adam = FlatAdam(build().to(DEVICE), 1e-4, (0.5, 0.999), half)
                for parameter in adam.trained:
                    parameter.grad = torch.randn_like(parameter)
                return adam.step

            with torch.device("meta"):
                count = sum(p.numel() for p in build().parameters())
            yield Case("adam", f"{preset} {name}", 28 * count, make)


def copy_case(moved: int) -> Case:
    """A copy that reads and writes so many bytes."""

    def make() -> Callable[[], object]:
        source = torch.zeros(max(1, moved // 2), dtype=torch.uint8, device=DEVICE)
        target = torch.ones_like(source)
        return lambda: target.copy_(source)

    return Case("copy", "", moved, make)


def seconds_of(case: Case, tiny: bool) -> float:
    """Seconds of a call, between others; the fastest of several replays."""
    turns = 2 if tiny else max(2, min(MOST_TURNS, math.ceil(ROTATED / case.moved)))
    calls = [case.make() for _ in range(turns)]
    if DEVICE.type != "cuda":
        return harness.fastest(calls[0], DEVICE, runs=2)
    count = turns * max(1, LAUNCHES // turns)
    stream, graph, kept = torch.cuda.Stream(), torch.cuda.CUDAGraph(), []
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for call in calls:
            call()
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph, stream=stream):
        for i in range(count):
            kept.append(calls[i % turns]())
            del kept[:-turns]  # results take turns as well
    best = math.inf
    for _ in range(REPLAYS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        best = min(best, begin.elapsed_time(end) / 1e3 / count)
    return best


def measure(cases: Iterator[Case], tiny: bool) -> list[dict[str, Any]]:
    """Time cases, and a copy beside each size."""
    copies: dict[int, float] = {}
    rows = []
    for case in cases:
        if case.moved not in copies:
            copies[case.moved] = seconds_of(copy_case(case.moved), tiny)
        seconds, copied = seconds_of(case, tiny), copies[case.moved]
        rows.append(
            {
                "name": case.name,
                "shape": case.shape,
                "moved_bytes": case.moved,
                "us": 1e6 * seconds,
                "gb_per_s": case.moved / seconds / 1e9,
                "copy_us": 1e6 * copied,
                "of_copy": copied / seconds,
            }
        )
    return rows


def table_of(rows: list[dict[str, Any]]) -> Table:
    """The rows for people."""
    table = Table("op", "shape")
    for heading in ("MB", "µs", "GB/s", "copy, µs", "of a copy's rate"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row["name"], row["shape"], f"{row['moved_bytes'] / 1e6:.2f}", f"{row['us']:.2f}",
            f"{row['gb_per_s']:,.0f}", f"{row['copy_us']:.2f}", f"{row['of_copy']:.0%}",
        )  # fmt: skip
    return table


def main() -> None:
    """Time all of them, and write them down."""
    parser = argparse.ArgumentParser(prog="python -m bench.kernel_times", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a check that it works")
    parser.add_argument("--presets", nargs="+", default=["mnist", "celeba", "chairs-rotation"])
    parser.add_argument("--out", type=Path, metavar="FILE")
    options = parser.parse_args()
    tiny = options.tiny
    dtype = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
    with harness.presets(tiny):
        cases = [*bn_act_cases(dtype, tiny), *adam_cases(dtype, options.presets, tiny)]
        rows = measure(iter(cases), tiny)
    harness.console(width=120).print(table_of(rows))
    large = [
        row["of_copy"]
        for row in rows
        if row["name"].startswith("bn_act") and row["moved_bytes"] >= 2 * LIKE_COPY
    ]
    found = {
        **machine.describe(DEVICE),
        "dtype": str(dtype).removeprefix("torch."),
        "slowest_large_bn_act_of_copy": min(large, default=None),
        "rows": rows,
    }
    if options.out is not None:
        harness.write_results(options.out, found)


if __name__ == "__main__":
    main()
