"""An evaluation as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from fastinfogan.printable import printable
from fastinfogan.results.evaluate import Evaluation
from fastinfogan.results.factors.text import format_disentanglement


def format_evaluation(evaluation: Evaluation) -> str:
    """The numbers as lines of at most 80 characters."""
    lines = [
        f"information on {evaluation.samples:,} generated images, in nats",
        f"  {'code':<12}{'L_I':>8}{'best':>8}{'H(c)':>8}{'fitted':>8}{'corr.':>8}",
    ]
    for code in evaluation.codes:
        line = f"  {code.name:<12}{code.mi:8.3f}{code.best_mi:8.3f}{code.entropy:8.3f}"
        if code.mi_fitted is not None:
            line += f"{code.mi_fitted:8.3f}{code.correlation:8.3f}"
        lines.append(line)
    totals = evaluation.totals
    lines.append(
        f"  {'total':<12}{totals['mi']:8.3f}{totals['best_mi']:8.3f}{totals['entropy']:8.3f}"
    )
    if any(code.mi_fitted is not None for code in evaluation.codes):
        lines.append(
            "  (best: the most that this form of Q reaches; fitted: L_I with the best sigma)"
        )
    if evaluation.disentanglement is not None:
        lines += format_disentanglement(evaluation.disentanglement)
    best = evaluation.best
    if best is None:
        return "\n".join(lines)
    lines += [
        f"categories of {evaluation.real_images} against their labels",
        f"  {'code':<12}{'error, Hungarian':>18}{'error, majority':>18}{'NMI':>8}{'ARI':>8}",
    ]
    for c in evaluation.clusterings:
        lines.append(
            f"  {c.code:<12}{c.error_hungarian:18.2%}{c.error_majority:18.2%}"
            f"{c.nmi:8.3f}{c.ari:8.3f}"
        )
    lines.append(f"category -> label of {best.code} (Hungarian)")
    lines += _wrapped(
        f"{k} -> {'none' if name is None else printable(name, 80)}"
        for k, name in enumerate(best.category_to_label)
    )
    return "\n".join(lines)


def _wrapped(items: Iterable[str], width: int = 80) -> list[str]:
    """Items in lines of at most ``width`` characters, never broken inside an item."""
    lines: list[str] = []
    for item in items:
        if lines and len(lines[-1]) + 3 + len(item) <= width:
            lines[-1] += f"   {item}"
        else:
            lines.append(f"  {item}")
    return lines
