"""A code's categories against the labels of real images, as a heat map with its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from fastinfogan.results.clustering import Clustering
from fastinfogan.results.pictures import column_order
from fastinfogan.results.report.elements import Content, element, table

MOST = 40  # categories, and labels, that are shown one by one
SHADES = 20  # steps from none of a row's images to all of them (style.css)


@dataclass(frozen=True)
class Side:
    """A side of the matrix: what is shown one by one, in order, and what together.

    Attributes:
        shown: indices.
        others: indices of those that share the last place.
    """

    shown: tuple[int, ...]
    others: tuple[int, ...]


def sorted_by_match(clustering: Clustering) -> tuple[Side, Side]:
    """Categories and labels so that matched ones are on the diagonal, from the top left.

    Matched pairs come in the order of their labels, then what has no partner, the largest first.

    Returns:
        The categories and the labels.
    """
    counts, match = clustering.contingency, clustering.hungarian
    pairs = [k for k in column_order(clustering.category_to_label) if match[k] is not None]
    labels = [match[k] for k in pairs]
    left = sorted(set(range(len(counts))) - set(pairs), key=lambda k: (-sum(counts[k]), k))
    alone = sorted(
        set(range(len(clustering.label_names))) - set(labels),
        key=lambda label: (-sum(row[label] for row in counts), label),
    )
    return _cut([*pairs, *left]), _cut([*labels, *alone])


def matrix(clustering: Clustering) -> Element:
    """The heat map. A cell's shade is its share of the images of its category."""
    counts = clustering.contingency
    categories, labels = sorted_by_match(clustering)
    rows: list[list[Content]] = []
    for k in categories.shown:
        partner = clustering.hungarian[k]
        name = "none" if partner is None else clustering.label_names[partner]
        head = element("span", element("span", f"{k} → ", class_="soft"), name, title=name)
        rows.append([head, *_cells(counts[k], labels, partner)])
    if categories.others:
        columns = zip(*(counts[k] for k in categories.others), strict=True)
        summed = [sum(column) for column in columns]
        rows.append([f"{len(categories.others)} others", *_cells(summed, labels, None)])
    heads: list[Content] = [element("span", "category → label", class_="soft")]
    names = (clustering.label_names[label] for label in labels.shown)
    heads += [element("span", name, title=name) for name in names]
    heads += [f"{len(labels.others)} others"] * bool(labels.others)
    return table([*heads, "images"], rows, "matrix")


def _cells(counts: Sequence[int], labels: Side, partner: int | None) -> list[Content]:
    total = sum(counts)
    cells: list[Content] = [
        _counted(counts[label], total, "match" if label == partner else "")
        for label in labels.shown
    ]
    if labels.others:
        cells.append(_counted(sum(counts[label] for label in labels.others), total, ""))
    return [*cells, element("td", f"{total:,}", class_="total")]


def shaded(text: str, share: float, other: str) -> Element:
    """A cell whose shade is a share.

    Args:
        text: what stands in it.
        share: 0 to 1.
        other: one more class, or none.
    """
    shade = f"shade{round(SHADES * min(max(share, 0.0), 1.0))}"
    return element("td", text, class_=f"{shade} {other}".strip(), title=f"{share:.1%}")


def _counted(count: int, total: int, other: str) -> Element:
    return shaded(f"{count:,}", count / total if total else 0.0, other)


def _cut(order: list[int]) -> Side:
    if len(order) <= MOST:
        return Side(tuple(order), ())
    return Side(tuple(order[: MOST - 1]), tuple(order[MOST - 1 :]))
