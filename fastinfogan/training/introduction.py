"""What a session says before it trains: what is trained, on what, where to."""

from __future__ import annotations

from pathlib import Path

from fastinfogan.config import TrainConfig
from fastinfogan.data import ImageData
from fastinfogan.data.feeds.feed import Feed
from fastinfogan.plan import Plan
from fastinfogan.sizes import counted
from fastinfogan.training.resume import Standing


def introduction(
    config: TrainConfig,
    data: ImageData,
    test: ImageData,
    plan: Plan,
    feed: Feed,
    out: Path,
    standing: Standing,
    resumed: bool,
) -> list[str]:
    """Its lines.

    Args:
        config: resolved.
        data, test: images to train on, and to evaluate on.
        plan, feed: how it is trained, and where batches come from.
        out: the run directory.
        standing: where the session begins.
        resumed: whether the run was begun by an earlier one.
    """
    shape = "x".join(map(str, data.image_shape))
    lines = [
        *(problem for _, problem in standing.damaged),
        f"{data.total:,} {shape} images of {config.data.dataset}; preset "
        f"{config.model.preset}, codes {config.model.codes}, noise {config.model.noise}",
        f"{config.run.engine} engine on {plan.describe()}; {feed.summary}",
        f"run directory {out}",
    ]
    if config.run.reduce_dtype != "float32" and plan.ranks.size == 1:
        lines.append(
            f"--reduce-dtype {config.run.reduce_dtype}: no effect, for one process sends nothing"
        )
    if len(test) < test.total:
        lines.append(f"evaluated on a sample: {len(test):,} of {counted(test.total, 'image')}")
    lines += data.notes
    if data.skipped:
        names = ", ".join(repr(name) for name, _ in data.skipped[:3])
        more = ", ...; fastinfogan ingest names them all" if len(data.skipped) > 3 else ""
        lines.append(f"files skipped: {len(data.skipped)} ({names}{more})")
    if resumed:
        lines.append(f"continuing after iteration {standing.iteration}")
        lines += standing.notes
    elif plan.advice:  # a run keeps its precision
        lines.append(plan.advice)
    return lines
