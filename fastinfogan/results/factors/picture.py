"""factors.png: how much of each known factor each code knows, as a picture."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np

from fastinfogan.files import atomic_write
from fastinfogan.printable import printable
from fastinfogan.results.factors.measure import SCORES, Disentanglement

_MOST_NUMBERED = 24  # rows or columns: in a larger table numbers can't be read
_SHOWN = ("mig", "dci_disentanglement", "sap", "factor_vae", "modularity")


def plot_factors(found: Disentanglement, path: Path) -> bool:
    """Draw I(c; v) / H(v) of every code and factor, as PNG.

    Args:
        found: what was measured.
        path: the file; it is there whole or not at all.

    Returns:
        Whether there was anything to draw: a factor that varies.
    """
    if not found.factors:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, columns = len(found.codes), len(found.factors)
    width, height = (max(size, 4) * 0.55 for size in (columns, rows))
    figure = Figure(figsize=(width + 3.0, height + 1.8), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    shares = np.array(found.information).reshape(rows, columns) / np.array(found.entropies)
    drawn = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    axes.set_xticks(
        range(columns),
        [printable(name, 24) for name in found.factors],
        rotation=45, ha="right", rotation_mode="anchor",
    )  # fmt: skip
    axes.set_yticks(range(rows), found.codes)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if max(rows, columns) <= _MOST_NUMBERED:
        for (row, column), share in np.ndenumerate(shares):
            color = "white" if share > 0.55 else "black"
            axes.text(
                column, row, f"{share:.2f}", ha="center", va="center", size="small", color=color
            )
    figure.colorbar(drawn, ax=axes, label="I(c; v) / H(v)")
    given = [
        f"{SCORES[name]} {found.scores[name]:.2f}"
        for name in _SHOWN
        if found.scores[name] is not None
    ]
    title = "what each code knows of each factor"
    lines = [", ".join(given[:3]), ", ".join(given[3:])]
    figure.suptitle("\n".join([title, *filter(None, lines)]), size="medium")
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    atomic_write(path, buffer.getvalue())
    return True
