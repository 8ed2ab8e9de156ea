"""The cost model beside a GPU: predicted and measured times of a profile's kernels, class by class.

    python -m bench.predict.measured profile.json            # of bench.gpu_check; prints a table
    python -m bench.predict.measured profile.json --write    # keeps both, and the page's table

A profile is of uncompiled iterations (``ours-amp``), and of the checkout's own commit: what is
predicted is counted now. Times of kernels are held against each other without what lies between
them, which has a line of its own.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench.compile_gate import require_compiler
from bench.harness import RESULTS
from bench.machine import slug
from bench.predict import h100, ours
from bench.predict.iteration import count
from bench.predict.work import Work
from fastinfogan.files import atomic_write

SUBJECT = "ours-amp"
DOCS = Path(__file__).parents[2] / "docs" / "performance.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
NAME_LENGTH = 120  # of a kernel, in results files

# A class, what its kernels are called when traced, and what the model calls them. The first that
# fits counts.
CLASSES = (
    (
        "convolution",
        r"fprop|dgrad|wgrad|ImplicitGemmConv|5x_cudnn|^_?conv_|^sum_parts",
        r"^convolution(?!, memset)|^conv_|^sum_parts",
    ),
    ("padding for it", r"nchwToNhwc|nhwcToNchw|AddPadding", r"padding of channels"),
    ("product", r"nvjet|gemm|splitKreduce|gemv|^_?linear_", r"product|^linear_"),
    ("`bn_act`, sums", r"^_?bn_act_(backward_)?(partials|merge)", r"bn_act_.*(partials|merge)"),
    ("`bn_act`, applied", r"^_?bn_act", r"bn_act"),
    ("`adam`", r"^_?adam", r"adam"),
    ("losses", r"^_?(mi_loss|consistency)", r"mi_loss|consistency"),
    ("draws, `warp`", r"^_?(latents|draw|gather|order|warp)", r"latents|draw|gather|order|warp"),
    ("filling, memsets", r"[Mm]emset|FillFunctor", r"convolution, memset|zeros|fill|zero"),
    ("everything else", r"", r""),
)

Found = dict[str, Any]


def class_of(kernel: str, *, traced: bool) -> str:
    """The class of a kernel's name, as a profiler or the model has it."""
    return next(name for name, *patterns in CLASSES if re.search(patterns[not traced], kernel))


def predicted_of(works: Iterable[Work]) -> dict[str, list[float]]:
    """Launches and µs of each class, and what lies between."""
    found: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for work in works:
        for name, seconds in (
            (class_of(work.kernel, traced=False), work.kernel_s), ("between", work.node_s),
        ):  # fmt: skip
            found[name][0] += 1
            found[name][1] += 1e6 * seconds
    return dict(found)


def measured_of(profile: Found) -> dict[str, list[float]]:
    """The same of a profile; what ran beside something else is "overlap", and counts as less."""
    found: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for row in profile["kernels"]:
        of = found[class_of(row["name"], traced=True)]
        of[0] += row["calls"]
        of[1] += row["us"]
    launches = sum(calls for calls, _ in found.values())
    # The gaps of the trace are longer than those of an undisturbed replay.
    between = profile["iteration_us"] - profile["busy_us"]
    return {**found, "between": [launches, between], "overlap": [0, -profile["overlap_us"]]}


def rounded(numbers: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: [round(calls, 2), round(us, 1)] for name, (calls, us) in numbers.items()}


def comparison(preset: str, profile: Found, bytes_per_s: float) -> Found:
    """Both, by class: [launches, µs]."""
    counted = count(preset, torch.bfloat16)
    works = counted.library + [ours.work_of(launch) for launch in counted.ours]
    works = [replace(work, bytes_per_s=bytes_per_s) for work in works]
    return {
        "predicted": rounded(predicted_of(works)),
        "measured": rounded(measured_of(profile)),
        "iteration_us": [
            round(1e6 * sum(work.seconds for work in works), 1),
            round(profile["iteration_us"], 1),
        ],
    }


def tables(compared: dict[str, Found]) -> str:
    """Launches and µs, predicted / measured, in Markdown."""
    lines = [
        f"| predicted / measured, µs (launches) | {' | '.join(f'`{p}`' for p in compared)} |",
        f"|---|{'--:|' * len(compared)}",
    ]
    names = [name for name, *_ in CLASSES]
    titles = {"between": "between kernels", "overlap": "ran beside others"}
    for name in [*names, *titles]:
        cells = []
        for found in compared.values():
            pairs = [found[kind].get(name, [0, 0.0]) for kind in ("predicted", "measured")]
            (launches, us), (of_launches, of_us) = pairs
            calls = f" ({launches:g} / {of_launches:g})" if name in names else ""
            cells.append(f"{us:,.0f} / {of_us:,.0f}{calls}" if any(map(any, pairs)) else "")
        lines.append(f"| {titles.get(name, name)} | {' | '.join(cells)} |")
    totals = []
    for found in compared.values():
        predicted, measured = found["iteration_us"]
        calls = [found[kind]["between"][0] for kind in ("predicted", "measured")]
        totals.append(
            f"{predicted:,.0f} / {measured:,.0f}, {predicted / measured - 1:+.0%} "
            f"({calls[0]:g} / {calls[1]:g})"
        )
    return "\n".join([*lines, f"| **iteration** | {' | '.join(totals)} |"])


def with_table(page: str, compared: dict[str, Found]) -> str:
    """A page of documentation with this table between its marks."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}{tables(compared)}\n{END}{rest.split(END)[1]}"


def kept(profile: Found) -> Found:
    """What results files hold of a profile."""
    rows = [{**row, "name": row["name"][:NAME_LENGTH]} for row in profile["kernels"]]
    for row in rows:
        row |= {"us": round(row["us"], 2), "calls": round(row["calls"], 2)}
        del row["share"]
    numbers = ("iteration_us", "span_us", "busy_us", "gap_us", "overlap_us")
    return {**{name: round(profile[name], 1) for name in numbers}, "kernels": rows}


def results_file(on: Found) -> Path:
    """Where the results of a GPU are kept."""
    return RESULTS / f"profile-{slug(on['hardware'])}.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare; exit status 2 if that can't be done here."""
    parser = argparse.ArgumentParser(prog="python -m bench.predict.measured", description=__doc__)
    parser.add_argument("profile", type=Path)
    parser.add_argument("--write", action="store_true", help="keep profile and table")
    options = parser.parse_args(arguments)
    try:
        require_compiler("predict.measured")
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    profiles = json.loads(options.profile.read_text())
    on, compared = {}, {}
    for preset, by_subject in profiles.items():
        if (profile := by_subject.get(SUBJECT)) is not None:
            on = {name: profile[name] for name in ("hardware", "versions", "commit", "date")}
            gpu = on["hardware"]["gpu"]
            bytes_per_s = h100.H200_BYTES_PER_S if "H200" in gpu else h100.BYTES_PER_S
            compared[preset] = comparison(preset, profile, bytes_per_s)
    if not compared:
        print(f"error: {options.profile}: no profile of {SUBJECT} in it", file=sys.stderr)
        return 2
    print(tables(compared))
    if options.write:
        content = {
            "what": "20 replayed iterations traced, --amp (bfloat16), alternating: per iteration",
            "on": on,
            "compared": compared,
            "profiles": {
                preset: {subject: kept(profile) for subject, profile in by_subject.items()}
                for preset, by_subject in profiles.items()
            },
        }
        text = json.dumps(content, indent=1)
        # A line for each kernel, and for each pair of numbers.
        text = re.sub(r"\[[^][{}]*\]", lambda match: " ".join(match[0].split()), text)
        text = re.sub(r"\{[^{}]*\}", lambda match: " ".join(match[0].split()), text)
        atomic_write(results_file(on), (text + "\n").encode())
        atomic_write(DOCS, with_table(DOCS.read_text(), compared).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
