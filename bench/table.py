"""What was measured, for people: a table for each preset, and why some subjects have no numbers."""

from __future__ import annotations

import math
from typing import Any

from rich.table import Table

from bench.subjects import TUNED


def table_of(preset: str, measured: dict[str, Any]) -> Table:
    """One preset's results for people."""
    floors = ", ".join(f"{dtype} {_ms(s)}" for dtype, s in measured["floor_s"].items())
    title = f"{preset}, batch {measured['batch']}: {measured['flop'] / 1e9:.3g} GFLOP an iteration"
    table = Table(title=f"{title}; floor: {floors or 'none'}", title_justify="left")
    table.add_column("subject", no_wrap=True)
    headings = (
        "ms, median", "quartiles", "images/s", "x tuned", "x reference", "x best compiled",
        "x ours", "of the floor", "first, s", "peak MB",
    )  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, result in measured["subjects"].items():
        if "seconds" not in result:
            table.add_row(name, "failed" if "failed" in result else "skipped")
            continue
        seconds = result["seconds"]
        ratios = result["ratio_to"]
        first = result.get("first_iteration_s")  # not where subjects warmed up side by side
        memory = result.get("memory", {}).get("peak_bytes")
        table.add_row(
            name,
            _ms(seconds["median"], ""),
            f"{_ms(seconds['q1'], '')}-{_ms(seconds['q3'], '')}",
            f"{result['images_per_s']:,.0f}",
            *(
                f"{ratios[base]['median']:.2f}" if base in ratios else ""
                for base in (peer_of(result), "reference", "best_compiled", "ours")
            ),
            f"{result['floor_fraction']:.0%}",
            "" if first is None else f"{first:.2f}",
            "" if memory is None else f"{memory / 1e6:,.0f}",
        )
    return table


def peer_of(result: dict[str, Any]) -> str:
    """The subject that a result's first ratio is to: the tuned one in the same precision."""
    return f"{TUNED}-amp" if result["amp"] else TUNED


def remarks_of(measured: dict[str, Any]) -> list[str]:
    """Why there are subjects without numbers."""
    return [
        f"{name} {kind}: {result[kind]}"
        for name, result in measured["subjects"].items()
        for kind in ("skipped", "failed", "note")
        if kind in result
    ]


def _ms(seconds: float, unit: str = " ms") -> str:
    milliseconds = seconds * 1e3
    digits = max(0, 2 - math.floor(math.log10(milliseconds))) if milliseconds > 0 else 0
    return f"{milliseconds:.{min(digits, 3)}f}{unit}"
