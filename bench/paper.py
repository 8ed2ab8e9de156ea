"""The paper's experiments that need no download, one after the other, and what came of each.

    python -m bench.paper --budget minutes -- --amp         # sketches: does every command work?
    python -m bench.paper --budget hours -- --amp

What follows ``--`` is given to every ``train``. Each experiment is an ordinary run in a folder of
its own below ``--out``; given again with the same options, the command goes on where it stopped,
and a sketch grows into the long form. It leaves ``paper.md``: for each figure the command, its
pictures, its numbers. docs/paper.md says what agrees with the paper and what doesn't.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastinfogan.errors import UserError
from fastinfogan.files import atomic_write
from fastinfogan.results.curves import plot_curves
from fastinfogan.results.run_config import read_config
from fastinfogan.results.summary import read_summary
from fastinfogan.training.metrics import read_metrics

BUDGETS = ("minutes", "hours")
CURVES, METRICS = "figure-1.png", "metrics.jsonl"


@dataclass(frozen=True)
class Experiment:
    """A run of the paper's.

    Attributes:
        name: of its folder.
        figure: where the paper shows it.
        shows: what the paper's figure shows.
        options: of ``train``, beside iterations and folder.
        iterations: for each of ``BUDGETS``. The paper gives none.
        factors: known ones that a code each should follow, whose traversals the figure shows.
        codes: whose traversals it shows where factors aren't known.
    """

    name: str
    figure: str
    shows: str
    options: str
    iterations: tuple[int, int]
    factors: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()


# Where the paper's data needs a licence or a download, renders of the same things stand in for it.
EXPERIMENTS = (
    Experiment(
        "mnist", "Figures 1 and 2 (a), (c), (d)",
        "c1 is the digit, c2 its rotation, c3 its width; L_I of c1 reaches H(c) = 2.30",
        "--preset mnist", (200, 3_000), codes=("c1_cat10", "c2_uni", "c3_uni"),
    ),
    Experiment(
        "mnist-gan", "Figures 1 and 2 (b)",
        "a regular GAN's c1 has no clear meaning, and L_I stays near 0",
        "--preset mnist --objective gan", (200, 3_000), codes=("c1_cat10",),
    ),
    Experiment(
        "mnist-ours", "section 7.2, the error of 5 %",
        "of the paper's one run; this one is ours, with consistency and augmented judging",
        "--preset digits", (200, 3_000), codes=("c1_cat10",),
    ),
    *(
        Experiment(
            f"faces-{factor}", f"Figure 3 {panel}", f"a code is the faces' {factor}",
            f"--dataset rendered-faces --preset faces-{factor}", (100, 3_000), (factor,),
        )
        for factor, panel in (("azimuth", "(a)"), ("elevation", "(b)"), ("lighting", "(c)"))
    ),
    Experiment(
        "faces-ours", "Figure 3, all of it",
        "one code each is azimuth, elevation and lighting; here in one run, with a preset of ours",
        "--dataset rendered-faces --preset rendered-faces", (100, 3_000),
        ("azimuth", "elevation", "lighting"),
    ),
    Experiment(
        "chairs-rotation", "Figure 4 (a)", "the continuous code turns the chair",
        "--dataset rendered-chairs --preset chairs-rotation", (10, 3_000), ("azimuth",),
    ),
    Experiment(
        "chairs-width", "Figure 4 (b)", "the continuous code widens the chair",
        "--dataset rendered-chairs --preset chairs-width", (10, 3_000), ("width",),
    ),
    Experiment(
        "chairs-ours", "Figure 4, all of it",
        "one code turns the chair and one widens it; here in one run, with a preset of ours",
        "--dataset rendered-chairs --preset rendered-chairs", (100, 2_000), ("azimuth", "width"),
    ),
)  # fmt: skip


def command(experiment: Experiment, budget: str, out: Path, more: Sequence[str]) -> list[str]:
    """What is typed for an experiment. Given again it goes on, or finds the run finished."""
    iterations = experiment.iterations[BUDGETS.index(budget)]
    words = ["fastinfogan", "train", "--resume", str(out / experiment.name), "--or-start"]
    return [*words, *experiment.options.split(), "--iterations", str(iterations), *more]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what isn't trained yet, and write ``paper.md``. Exit code 2 if a run is refused."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.paper", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    names = [experiment.name for experiment in EXPERIMENTS]
    parser.add_argument("--budget", choices=BUDGETS, default="minutes")
    parser.add_argument("--out", type=Path, default=Path("runs/paper"), metavar="FOLDER")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("more", nargs="*", metavar="-- OPTION", help="of every train")
    options = parser.parse_args(arguments)
    chosen = [experiment for experiment in EXPERIMENTS if experiment.name in options.only]
    for number, experiment in enumerate(chosen, 1):
        words = command(experiment, options.budget, options.out, options.more)
        print(f"\n{number} of {len(chosen)}, {experiment.figure}: {shlex.join(words)}", flush=True)
        rc = subprocess.run([sys.executable, "-m", *words]).returncode
        if rc:
            return rc
    try:
        text = page(options.budget, options.out, options.more)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    atomic_write(options.out / "paper.md", text.encode())
    print(f"\n{text}\n{options.out / 'paper.md'}")
    return 0


def page(budget: str, out: Path, more: Sequence[str]) -> str:
    """Every finished experiment with its command, pictures and numbers, in Markdown."""
    lines = ["# The paper's experiments", ""]
    for experiment in EXPERIMENTS:
        folder = out / experiment.name
        rows = read_metrics(folder / METRICS)
        done = rows[-1]["iteration"] if rows else 0
        finished = (folder / "summary.json").exists()
        summary = read_summary(folder, read_config(folder), done) if finished else None
        if summary is None:
            stands = f"`{experiment.name}` stands at iteration {done:,} and isn't finished."
            lines += [f"## {experiment.figure}", "", stands, ""]
            continue
        evaluation = summary["evaluation"]
        follow = _followers(experiment, evaluation)
        lines += [f"## {experiment.figure}", "", f"The paper: {experiment.shows}.", ""]
        lines += [f"    {shlex.join(command(experiment, budget, out, more))}", ""]
        lines += [f"{done:,} iterations, {summary['device']}: {_numbers(evaluation, follow)}", ""]
        codes = dict.fromkeys(found["code"] for found in follow) or experiment.codes
        lines += [f"![{code}]({experiment.name}/traversal_{code}.png)" for code in codes]
        if experiment.name == "mnist-gan" and _draw_curves(out):
            lines.append(f"![L_I of InfoGAN and of the regular GAN]({CURVES})")
        lines.append("")
    return "\n".join(lines)


def _followers(experiment: Experiment, evaluation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The code that goes best with each of the experiment's factors."""
    measured = evaluation.get("disentanglement") or {"correlations": []}
    return [found for found in measured["correlations"] if found["factor"] in experiment.factors]


def _numbers(evaluation: Mapping[str, Any], follow: Sequence[Mapping[str, Any]]) -> str:
    parts = [f"L_I of {code['name']} {code['mi']:.3f}" for code in evaluation["codes"]]
    for found in follow:
        words = f"correlation of {found['code']} with {found['factor']}"
        parts.append(f"{words} {found['value']:.2f}")
    parts += [f"error {c['error_hungarian']:.1%}" for c in evaluation["clusterings"]]
    return ", ".join(parts)


def _draw_curves(out: Path) -> bool:
    """The paper's Figure 1, if both of its runs are there."""
    runs = [out / name for name in ("mnist", "mnist-gan")]
    if not all((run / METRICS).exists() for run in runs):
        return False
    ours, baseline = (read_metrics(run / METRICS) for run in runs)
    plot_curves(ours, read_config(runs[0]).spec, out / CURVES, baseline=baseline)
    return True


if __name__ == "__main__":
    sys.exit(main())
