"""What a finished run leaves beside its generator and pictures: curves, pages, summary.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from fastinfogan.config import TrainConfig
from fastinfogan.data import ImageData
from fastinfogan.files import atomic_write
from fastinfogan.paths import quoted
from fastinfogan.results.curves import plot_curves
from fastinfogan.results.environment import machine, versions
from fastinfogan.results.eval_mode import eval_device
from fastinfogan.results.evaluate import Evaluation
from fastinfogan.results.explorer.page import explorer_page
from fastinfogan.results.factors.picture import plot_factors
from fastinfogan.results.generator import TrainedGenerator
from fastinfogan.results.report.facts import Facts
from fastinfogan.results.report.page import report_page
from fastinfogan.training.collapse import Sign
from fastinfogan.training.metrics import read_metrics

EXPLORER, REPORT = "explorer.html", "report.html"


def leave_behind(
    folder: Path,
    config: TrainConfig,
    trained: TrainedGenerator,
    evaluation: Evaluation,
    *,
    iteration: int,
    images: ImageData,
    seconds: float,
    device: str,
    collapse: Sequence[Sign],
) -> None:
    """Write curves.png, factors.png, explorer.html, report.html and summary.json.

    Args:
        folder: the run directory, in which generator.safetensors and the pictures are already.
        config: resolved.
        trained: the generator, in eval mode.
        evaluation: what was measured.
        iteration: iterations trained.
        images: what was trained on.
        seconds: spent training.
        device: what trained, in words.
        collapse: signs of it at the end of training.
    """
    spec, ran_with = config.spec, versions()
    metrics = read_metrics(folder / "metrics.jsonl", spec)
    if metrics:  # somebody may have removed them
        plot_curves(metrics, spec, folder / "curves.png")
    if evaluation.disentanglement is not None:
        plot_factors(evaluation.disentanglement, folder / "factors.png")

    name = folder.resolve().name
    content = (folder / "generator.safetensors").read_bytes()
    page = explorer_page(content, trained, name, quoted(folder))
    atomic_write(folder / EXPLORER, page)

    shape = "x".join(map(str, images.image_shape))
    pictures = ("samples", *(f"traversal_{code}" for code in spec.names))
    facts = Facts(
        name=name,
        command=quoted(Path(name) if folder.is_absolute() else folder),
        config=config,
        iteration=iteration,
        seconds=seconds,
        ended=datetime.now().astimezone(),
        trained_on=f"{images.total:,} {shape} images",
        device=device,
        environment={**ran_with, **machine(eval_device(trained.generator))},
        collapse=collapse,
        evaluation=evaluation,
        metrics=metrics,
        pictures={picture: (folder / f"{picture}.png").read_bytes() for picture in pictures},
    )
    atomic_write(folder / REPORT, report_page(facts))

    summary = {
        "iterations": iteration,
        "seconds": round(seconds, 1),
        "last_metrics": metrics[-1] if metrics else None,
        "collapse": [sign._asdict() for sign in collapse],
        "evaluation": evaluation.to_dict(),
        "config_sha256": config.fingerprint(),
        "device": device,
        "versions": ran_with,
    }  # written last: it says that all the rest is there
    atomic_write(folder / "summary.json", json.dumps(summary, indent=2).encode())
