"""A study's pictures: every seed's error, or what known factors say of it, over the iterations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastinfogan.files import atomic_write
from fastinfogan.sizes import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Studies = Mapping[str, Mapping[str, Any]]
_PANEL = (3.4, 2.4)  # inches


def plot_errors(studies: Studies, path: Path) -> bool:
    """Draw every seed's error over the iterations, as PNG.

    Args:
        studies: a name -> what was found, one or two.
        path: the file; it is there whole or not at all.

    Returns:
        Whether there was anything to draw: runs that were evaluated on the way.
    """
    figure = _figure((7, 4.5))
    axes = figure.subplots()
    for number, (name, found) in enumerate(studies.items()):
        curves = {seed: row["curve"] for seed, row in found["seeds"].items() if row["curve"]}
        in_percent = {
            seed: [(iteration, 100 * error) for iteration, error in curve]
            for seed, curve in curves.items()
        }
        _draw(axes, in_percent, found["chosen"], number, _label(name, curves))
    if not axes.lines:
        return False
    axes.set(xlabel="iteration", ylabel="error, Hungarian (%)", yscale="log")
    ticks = [t for t in (1, 2, 3, 5, 10, 20, 50, 100) if axes.get_ylim()[0] <= t]
    axes.set_yticks(ticks, [str(t) for t in ticks])
    axes.minorticks_off()
    axes.legend(edgecolor="none", title=_says(studies))
    _save(figure, path)
    return True


def plot_scores(studies: Studies, path: Path) -> bool:
    """Draw every seed's best correlation with each known factor, and scores, as PNG.

    Args:
        studies, path: as ``plot_errors``'s.

    Returns:
        Whether there was anything to draw: runs whose codes were compared with factors on the way.
    """
    rows = [row for found in studies.values() for row in found["seeds"].values()]
    names = list(dict.fromkeys(name for row in rows for name in row.get("curves", {})))
    if not names:
        return False
    wide = ceil(sqrt(len(names)))
    high = ceil(len(names) / wide)
    figure = _figure((_PANEL[0] * wide, _PANEL[1] * high + 0.6))
    figure.subplots(high, wide, sharex=True)
    for place, axes in enumerate(figure.axes):
        if place >= len(names):
            axes.set_visible(False)
            continue
        name = names[place]
        for number, (study, found) in enumerate(studies.items()):
            curves = {
                seed: row["curves"][name]
                for seed, row in found["seeds"].items()
                if name in row.get("curves", {})
            }
            _draw(axes, curves, found["chosen"], number, _label(study, curves))
        lowest = place + wide >= len(names)  # of its column
        axes.set(title=name, ylim=(0, 1), xlabel="iteration" if lowest else "")
        axes.tick_params(labelbottom=lowest)
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2,
        edgecolor="none", title=_says(studies),
    )  # fmt: skip
    _save(figure, path)
    return True


def _figure(size: tuple[float, float]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _draw(
    axes: Axes,
    curves: Mapping[str, Sequence[tuple[int, float]]],
    chosen: int | None,
    number: int,
    label: str,
) -> None:
    """One study's curves, a seed each, in its colour."""
    for n, (seed, curve) in enumerate(curves.items()):
        is_chosen = seed == str(chosen)
        axes.plot(
            [iteration for iteration, _ in curve],
            [value for _, value in curve],
            color=f"C{number}",
            marker="o" if len(curve) == 1 else "",  # a line of one point can't be seen
            linewidth=2.0 if is_chosen else 1.0,
            alpha=1.0 if is_chosen else 0.5,
            label="_" if n else label,  # matplotlib's legends leave out "_"
        )
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _label(name: str, curves: Mapping[str, Any]) -> str:
    return f"{name} ({counted(len(curves), 'seed')})"


def _says(studies: Studies) -> str | None:
    """What the legend says of thick lines, if there are any."""
    chosen = any(found["chosen"] is not None for found in studies.values())
    return "thick: chosen without labels" if chosen else None


def _save(figure: Figure, path: Path) -> None:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    atomic_write(path, buffer.getvalue())
