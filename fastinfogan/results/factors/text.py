"""Scores of disentanglement as text for a terminal."""

from __future__ import annotations

import textwrap

from fastinfogan.printable import printable
from fastinfogan.results.factors.correlation import FactorCorrelation
from fastinfogan.results.factors.measure import SCORES, Disentanglement

_WIDTH = 80
_FORMS = {"ordered": "", "angle": " as an angle", "line": " as a line"}


def format_disentanglement(found: Disentanglement) -> list[str]:
    """The scores, then each factor's best codes: lines of at most 80 characters."""
    lines = [
        f"codes of {found.points:,} real images against their known factors "
        f"({found.test_points:,} to test on)"
    ]
    names = list(SCORES)
    half = -(-len(names) // 2)
    for left, right in zip(names[:half], [*names[half:], None], strict=False):
        cells = [
            f"{SCORES[name]:<24}{_shown(found.scores[name]):>8}"
            for name in (left, right)
            if name is not None
        ]
        lines.append("  " + "      ".join(cells))
    if found.factors and found.codes:
        lines.append(f"  {'factor':<16}{'best code':<13}{'I/H':>5}  {'next':<13}{'I/H':>5}  corr.")
    correlations = {one.factor: one for one in found.correlations}
    for column, (factor, entropy) in enumerate(zip(found.factors, found.entropies, strict=True)):
        ranked = sorted(
            ((row[column] / entropy, code) for row, code in
             zip(found.information, found.codes, strict=True)),
            reverse=True,
        )  # fmt: skip
        cells = "".join(f"{code:<13}{share:5.2f}  " for share, code in ranked[:2])
        line = f"  {printable(factor, 15):<16}{cells:<40}{_correlation(correlations.get(factor))}"
        lines.append(line.rstrip())
    for note in (*found.notes, found.protocol):
        lines += textwrap.wrap(
            printable(note), _WIDTH, initial_indent="  (", subsequent_indent="   "
        )
        lines[-1] += ")"
    return lines


def _shown(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"


def _correlation(found: FactorCorrelation | None) -> str:
    return "" if found is None else f"{found.value:.2f} {found.code}{_FORMS[found.form]}"
