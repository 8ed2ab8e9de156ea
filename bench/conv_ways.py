"""Three ways to convolve on a CPU in float32: the presets' layers between maps, and a few others.

    python -m bench.conv_ways                 # minutes; writes bench/results/conv-ways-NAME.json
    python -m bench.conv_ways --rounds 21     # more of them

The library's, ours with all products, and ours with fewer (Winograd's). Each is first held against
float64, and its error is kept; then all take turns. A ratio is the median of the rounds'. Which one
training takes is the rule's choice, in bold (kernels/conv/rule.py).
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from rich.table import Table
from torch import Tensor

from bench import harness, machine
from fastinfogan.kernels.activation import SLOPE
from fastinfogan.kernels.channels_last import channels_last
from fastinfogan.kernels.conv import library, native
from fastinfogan.kernels.conv.rule import ours_is_faster, winograd_is_faster
from fastinfogan.kernels.dispatch import NATIVE

CPU = torch.device("cpu")
WAYS = {"library": library, "all": native, "fewer": native}  # and who goes them
OPERATIONS = ("down", "up", "weight")

# (images, large map, small map, stride).
LAYERS = {
    "mnist": (256, (64, 14, 14), (128, 7, 7), 2),
    "celeba, faces": (256, (64, 16, 16), (128, 8, 8), 2),
    "celeba, last": (256, (128, 8, 8), (256, 4, 4), 2),
    "chairs, second": (128, (64, 32, 32), (128, 16, 16), 2),
    "chairs, third": (128, (128, 16, 16), (256, 8, 8), 2),
    "chairs, stride 1": (128, (256, 8, 8), (256, 8, 8), 1),
    "half of it": (128, (128, 8, 8), (128, 8, 8), 1),
    "5x5": (128, (64, 10, 10), (128, 5, 5), 2),
    "few channels": (128, (32, 16, 16), (64, 8, 8), 2),
    "fewer": (128, (32, 16, 16), (32, 8, 8), 2),
    "few images": (32, (64, 16, 16), (128, 8, 8), 2),
}

# An error that no way of summing has, relative to the result.
TOO_LARGE = 1e-5


def convolve(
    module: Any, operation: str, large: Tensor, small: Tensor, weight: Tensor, stride: int
) -> Tensor:
    """An operation as a module's launchers do it."""
    if operation == "down":
        return module.conv_down(large, weight, None, stride, SLOPE, 1.0)
    if operation == "up":
        return module.conv_up(small, weight, None, stride, *large.shape[2:], SLOPE, 1.0)
    return module.conv_weight(large, small, None, 1.0, stride, False, False)[0]


def way(name: str) -> contextlib.AbstractContextManager[None]:
    """Has ours go one of its ways."""
    return mock.patch.object(native, "winograd_is_faster", lambda *_: name == "fewer")


def measure(operation: str, layer: str, rounds: int, tiny: bool) -> dict[str, Any]:
    """One operation of one layer: seconds, errors, and what the rule takes."""
    images, large_size, small_size, stride = LAYERS[layer]
    images = 16 if tiny else images
    torch.manual_seed(0)
    large, small, weight = (
        channels_last(torch.randn(size))
        for size in (
            (images, *large_size),
            (images, *small_size),
            (small_size[0], large_size[0], 4, 4),
        )
    )
    wide = (t.double() for t in (large, small, weight))
    exact = convolve(library, operation, *wide, stride)
    asked = operation, large, small, weight, stride
    errors = {}
    for name, module in WAYS.items():
        with way(name):
            errors[name] = harness.relative_error(convolve(module, *asked), exact)
    if max(errors.values()) > TOO_LARGE:
        raise RuntimeError(f"{operation} of {layer}: errors of {errors}, not timed")
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    names = list(WAYS)
    for i in range(rounds):
        for name in names[i % 3 :] + names[: i % 3]:  # none is always behind the same one
            with way(name):
                began = time.perf_counter()
                convolve(WAYS[name], *asked)
                seconds[name].append(time.perf_counter() - began)
    shape = operation, torch.float32, large.shape, small_size[0], stride
    ours = "fewer" if winograd_is_faster(*shape) else "all"
    return {
        "layer": layer, "operation": operation, "images": images, "large": large_size,
        "small": small_size, "stride": stride, "relative_errors": errors,
        "taken": ours if ours_is_faster("native", *shape) else "library",
        "seconds": {name: harness.spread(values) for name, values in seconds.items()},
        "fewer_over_all": ratio(seconds["all"], seconds["fewer"]),
        "fewer_over_library": ratio(seconds["library"], seconds["fewer"]),
    }  # fmt: skip


def ratio(slow: list[float], fast: list[float]) -> dict[str, float]:
    """How many times as fast, round by round."""
    return harness.spread([a / b for a, b in zip(slow, fast, strict=True)])


def table_of(rows: list[dict[str, Any]]) -> Table:
    """The rows for people, which docs/kernels.md has as well."""
    table = Table("layer", "", "images")
    for heading in ("library, ms", "all, ms", "fewer, ms", "× all", "× library", "error, × all's"):
        table.add_column(heading, justify="right")
    for row in rows:
        times = [
            f"[bold]{1e3 * row['seconds'][name]['median']:.1f}[/bold]"
            if name == row["taken"]
            else f"{1e3 * row['seconds'][name]['median']:.1f}"
            for name in WAYS
        ]
        error = row["relative_errors"]["fewer"] / row["relative_errors"]["all"]
        table.add_row(
            row["layer"], row["operation"], str(row["images"]), *times,
            f"{row['fewer_over_all']['median']:.2f}", f"{row['fewer_over_library']['median']:.2f}",
            f"{error:.2f}",
        )  # fmt: skip
    return table


def main() -> None:
    """Measure all layers, and write them down."""
    parser = argparse.ArgumentParser(prog="python -m bench.conv_ways", description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--tiny", action="store_true", help="16 images: a check")
    parser.add_argument("--out", type=Path, metavar="FILE")
    options = parser.parse_args()
    if NATIVE is None:
        parser.error("our kernels aren't here: `fastinfogan doctor` says why")
    rows = [
        measure(operation, layer, options.rounds, options.tiny)
        for layer in LAYERS
        for operation in OPERATIONS
    ]
    harness.console(width=120).print(table_of(rows))
    medians = [row["fewer_over_all"]["median"] for row in rows if row["taken"] == "fewer"]
    found = {
        **machine.describe(CPU),
        "rounds": options.rounds,
        "fewer_over_all_where_taken": statistics.median(medians) if medians else None,
        "rows": rows,
    }
    name = machine.cpu_file("conv-ways", found["hardware"])
    if options.out is not None or not options.tiny:
        harness.write_results(options.out or harness.RESULTS / name, found)


if __name__ == "__main__":
    main()
