"""What is predicted of each preset: the results file, the tables, and what fails the gate."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from bench.predict.work import Work

MOST_RATIO = 2.0  # of a kernel's time to its ideal
# Ratios may grow by so much: another Triton makes other machine code (3.6's are up to 7 % above
# 3.9's).
SLACK = 1.1
SHOWN = 16  # kernels in the table: those that take longest, and what takes twice its ideal

Found = dict[str, Any]


def summary(works: list[Work], batch: int) -> Found:
    """What results files hold of one preset's iteration.

    Args:
        works: its launches.
        batch: images.
    """
    groups: dict[tuple[str, str], list[Work]] = defaultdict(list)
    for work in works:
        groups[work.kernel, work.shape].append(work)
    rows = [
        {
            "kernel": kernel,
            "shape": shape,
            "ours": group[0].ours,
            "launches": len(group),
            "moved_bytes": sum(w.moved for w in group),
            "flop": sum(w.flop for w in group),
            "us": _us(sum(w.seconds for w in group)),
            "ideal_us": _us(sum(w.ideal_s for w in group)),
            "bound": group[0].bound,
            "ratio": round(max(w.ratio for w in group), 2),
        }
        for (kernel, shape), group in groups.items()
    ]
    rows.sort(key=lambda row: (-row["us"], row["kernel"], row["shape"]))
    return {
        "batch": batch,
        "launches": len(works),
        "launches_ours": sum(w.ours for w in works),
        "moved_bytes": sum(w.moved for w in works),
        "flop": sum(w.flop for w in works),
        "us": _us(sum(w.seconds for w in works)),
        "us_ours": _us(sum(w.seconds for w in works if w.ours)),
        "ideal_us_ours": _us(sum(w.ideal_s for w in works if w.ours)),
        "over_twice_ideal": _over(rows),
        "rows": rows,
    }


def _over(rows: list[Found]) -> dict[str, float]:
    """Our kernels that take more than twice their ideal somewhere, with their worst ratio."""
    worst: dict[str, float] = {}
    for row in rows:
        if row["ours"] and row["ratio"] > MOST_RATIO:
            worst[row["kernel"]] = max(row["ratio"], worst.get(row["kernel"], 0.0))
    return dict(sorted(worst.items()))


def faults(preset: str, found: Found, committed: Found) -> list[str]:
    """What of a preset fails the gate, in lines.

    Launches may not grow. A kernel of ours may take twice its ideal, or, if it is known to take
    more, as much as that.

    Args:
        preset: its name.
        found: its ``summary`` now.
        committed: its ``summary`` in the results file.
    """
    lines = []
    if found["launches"] > committed["launches"]:
        lines.append(f"{preset}: {found['launches']} launches, {committed['launches']} before")
    for kernel, ratio in found["over_twice_ideal"].items():
        allowed = SLACK * committed["over_twice_ideal"].get(kernel, MOST_RATIO / SLACK)
        if ratio > allowed:
            lines.append(
                f"{preset}: {kernel} takes {ratio:.1f} times its ideal; {allowed:.1f} is allowed"
            )
    return lines


def tables(presets: dict[str, Found]) -> str:
    """The presets, and the kernels that take longest, in Markdown."""
    lines = [
        "| preset, batch | launches | ours | moved | GFLOP | predicted | ours | ours, ideal |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, found in presets.items():
        lines.append(
            f"| `{name}`, {found['batch']} | {found['launches']} | {found['launches_ours']} "
            f"| {found['moved_bytes'] / 1e6:,.0f} MB | {found['flop'] / 1e9:.1f} "
            f"| {found['us'] / 1e3:.2f} ms | {found['us_ours']:,.0f} µs "
            f"| {found['ideal_us_ours']:,.0f} µs |"
        )
    by_kernel: dict[str, dict[str, list[Found]]] = defaultdict(lambda: defaultdict(list))
    for name, found in presets.items():
        for row in found["rows"]:
            by_kernel[row["kernel"]][name].append(row)

    def time_of(kernel: str, name: str) -> float:
        return sum(row["us"] for row in by_kernel[kernel][name])

    def cell(kernels: list[str], name: str) -> str:
        launches = sum(row["launches"] for kernel in kernels for row in by_kernel[kernel][name])
        us = sum(time_of(kernel, name) for kernel in kernels)
        return f"{us:,.0f} ({launches})" if launches else ""

    def share(kernel: str) -> float:
        return max(time_of(kernel, name) / found["us"] for name, found in presets.items())

    order = sorted(by_kernel, key=lambda kernel: (-share(kernel), kernel))
    lines += [
        "",
        f"| µs (launches) | {' | '.join(f'`{name}`' for name in presets)} | worst / ideal |",
        f"|---|{'--:|' * len(presets)}--:|",
    ]
    slow = {kernel for found in presets.values() for kernel in found["over_twice_ideal"]}
    shown = [kernel for i, kernel in enumerate(order) if i < SHOWN or kernel in slow]
    others = [kernel for kernel in order if kernel not in shown]
    for kernels in [*([kernel] for kernel in shown), others]:
        rows = [row for k in kernels for found in by_kernel[k].values() for row in found]
        ours = [row["ratio"] for row in rows if row["ours"]]
        title = f"{len(kernels)} others" if len(kernels) > 1 else kernels[0]
        title = f"`{title}`" if ours and len(kernels) == 1 else title
        cells = [cell(kernels, name) for name in presets]
        lines.append(f"| {' | '.join([title, *cells, f'{max(ours):.1f}' if ours else ''])} |")
    return "\n".join(lines)


def _us(seconds: float) -> float:
    return round(1e6 * seconds, 2)
