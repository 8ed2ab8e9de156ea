"""Curves: a run's L_I and losses against the iteration, as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastinfogan.files import atomic_write
from fastinfogan.kernels.codes import LOG_SIGMA_BOUND
from fastinfogan.model.latent_spec import LatentSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_curves(
    metrics: Sequence[Mapping[str, Any]],
    spec: LatentSpec,
    path: Path | str,
    baseline: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Draw L_I per regularised code (paper, Fig. 1) and the losses against the iteration, as PNG.

    Args:
        metrics: one or more rows of metrics.jsonl: ``iteration``, ``mi_per_code`` (nats, by the
            names in ``spec.names``), ``d_loss``, ``g_loss`` (nats).
        spec: the latent specification.
        path: the file; it is there whole or not at all.
        baseline: rows of a plain GAN's run with the same codes, drawn in grey.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = {
        title: codes
        for title, codes in (
            ("discrete codes", [i for i in spec.regularized if spec.codes[i].is_discrete]),
            ("continuous codes", [i for i in spec.regularized if not spec.codes[i].is_discrete]),
        )
        if codes
    }
    figure = Figure(figsize=(5.5 * len(panels), 6.5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplot_mosaic([list(panels), ["losses"] * len(panels)], height_ratios=[3, 2])
    for title, codes in panels.items():
        _draw_information(axes[title], spec, codes, metrics, baseline or ())
        axes[title].set(title=f"$L_I$ of the {title}", ylabel="nats")
    for key, name, color in (("d_loss", "D", "C3"), ("g_loss", "G", "C2")):
        values = [row[key] for row in metrics]
        _draw_curve(axes["losses"], metrics, values, color=color, label=name)
    axes["losses"].set(title="losses", xlabel="iteration", ylabel="nats")
    for panel in axes.values():
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_xlim(left=0)
        panel.legend(fontsize="small", edgecolor="none", ncols=2 if len(panel.lines) > 6 else 1)
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    atomic_write(Path(path), buffer.getvalue())


def _draw_information(
    axes: Axes,
    spec: LatentSpec,
    codes: Sequence[int],
    metrics: Sequence[Mapping[str, Any]],
    baseline: Sequence[Mapping[str, Any]],
) -> None:
    bounds: dict[str, float] = {}
    for i in codes:
        name, code, best = spec.names[i], spec.codes[i], spec.codes[i].best_mi
        _draw_curve(axes, metrics, [row["mi_per_code"][name] for row in metrics], label=name)
        if code.is_discrete:
            bounds[f"H(c) = {best:.2f}"] = best
        elif code.std == "learned":
            smallest = math.exp(-LOG_SIGMA_BOUND)
            bounds[f"best, with the smallest σ = {smallest:.3f}: {best:.2f}"] = best
        else:
            bounds[f"best, with σ = 1: H(c) - ½ log 2π = {best:.2f}"] = best
    for n, i in enumerate(codes if baseline else ()):
        values = [row["mi_per_code"][spec.names[i]] for row in baseline]
        label = "_" if n else "GAN baseline"  # matplotlib's legends leave out "_"
        _draw_curve(axes, baseline, values, color="0.4", linestyle=":", label=label)
    for label, best in bounds.items():
        axes.axhline(best, color="black", linestyle="--", linewidth=1, label=label)
    # Knowing nothing costs less than 1 nat: a worse start would only flatten what follows.
    axes.set_ylim(bottom=max(axes.get_ylim()[0], -1.0))


def _draw_curve(
    axes: Axes, rows: Sequence[Mapping[str, Any]], values: Sequence[float], **style: Any
) -> None:
    marker = "o" if len(rows) == 1 else ""  # a line of one point can't be seen
    axes.plot([row["iteration"] for row in rows], values, marker=marker, linewidth=1.2, **style)
