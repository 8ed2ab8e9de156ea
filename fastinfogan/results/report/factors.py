"""Known factors in a report: which code stands for which, as a heat map, and the scores."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from fastinfogan.results.factors.measure import SCORES, Disentanglement
from fastinfogan.results.report.elements import Content, element, table
from fastinfogan.results.report.matrix import shaded


def factors(found: Disentanglement | None) -> list[Element]:
    """A row for every factor, a column for every code; then the scores and how they were measured.

    Args:
        found: what was measured; None: the images have no known factors.
    """
    if found is None:
        return []
    correlations = {one.factor: one for one in found.correlations}
    rows: list[list[Content]] = []
    for column, (factor, entropy) in enumerate(zip(found.factors, found.entropies, strict=True)):
        shares = [row[column] / entropy for row in found.information]
        best = max(shares, default=0.0)
        cells: list[Content] = [
            shaded(f"{share:.2f}", share, "match" if share == best > 0 else "") for share in shares
        ]
        one = correlations.get(factor)
        said = "" if one is None else f"{one.value:.2f} ({one.code.split('_')[0]}, {one.form})"
        rows.append([element("span", factor, title=factor), *cells, said])
    heads: list[Content] = [element("span", "factor, code", class_="soft")]
    heads += [element("span", code.split("_")[0], title=code) for code in found.codes]
    scores: list[list[Content]] = [
        [SCORES[name], "" if score is None else f"{score:.3f}"]
        for name, score in found.scores.items()
    ]
    return [
        table([*heads, "best correlation"], rows, "matrix"),
        table(["score", "0 to 1"], scores, "numbers"),
        *(element("p", note, class_="soft") for note in (*found.notes, found.protocol)),
    ]
