"""What the tests of report.html share: a finished run, made up."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
from PIL import Image

from fastinfogan.config import DataConfig, ModelConfig, OptimConfig, TrainConfig, resolve
from fastinfogan.results.clustering import cluster
from fastinfogan.results.evaluate import CodeInformation, Evaluation
from fastinfogan.results.report.facts import Facts


def row(iteration, spec, **more):
    """A row of metrics.jsonl, different for every iteration."""
    return {
        "iteration": iteration,
        "d_loss": 1.3 - 0.1 * np.cos(iteration / 7),
        "g_loss": 0.7 + 0.2 * np.sin(iteration / 9),
        "mi": 1.0,
        "mi_per_code": {
            spec.names[i]: spec.codes[i].best_mi - 1 / (1 + i + iteration / 20)
            for i in spec.regularized
        },
        "images_per_s": 400.0 + iteration,
        **more,
    }


def facts(labels=None, codes="cat10,2xuni", rows=40, **changes) -> Facts:
    """A run of 800 iterations, and what was measured of it."""
    config = resolve(
        TrainConfig(
            DataConfig("digits"), ModelConfig(codes=codes), OptimConfig(iterations=20 * rows)
        )
    )
    spec = config.spec
    labels = tuple("0123456789") if labels is None else labels
    clusterings = []
    for i in spec.regularized:
        if spec.codes[i].has_categories and labels:
            shape = (spec.codes[i].categories, len(labels))
            counts = np.random.default_rng(i).integers(0, 9, shape)
            np.fill_diagonal(np.fliplr(counts), 300 + 10 * np.arange(min(shape)))
            clusterings.append(cluster(spec.names[i], counts, labels))
    informations = tuple(
        CodeInformation(
            spec.names[i], spec.codes[i].best_mi - 0.01, spec.codes[i].entropy,
            spec.codes[i].best_mi, *((None,) * 2 if spec.codes[i].is_discrete else (1.1, 0.97)),
        )
        for i in spec.regularized
    )  # fmt: skip
    metrics = [row(20 * (i + 1), spec) for i in range(rows)]
    for clustering in clusterings:
        for at in range(9, rows, 10):
            error = {"error_hungarian": 3 / at**2}
            metrics[at].setdefault("evaluation", {})[clustering.code] = error
    picture = io.BytesIO()
    Image.new("L", (600, 640), 80).save(picture, "png")
    made = Facts(
        name="digits-1",
        command="runs/digits-1",
        config=config,
        iteration=20 * rows,
        seconds=500.0,
        ended=datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc),
        trained_on="5,000 1x28x28 images",
        device="the CPU with 2 threads",
        environment={"fastinfogan": "0.1.0", "torch": "2.13.0", "commit": "abc", "threads": "2"},
        collapse=(),
        evaluation=Evaluation(1000, 1, 5000, informations, tuple(clusterings), None),
        metrics=metrics,
        pictures={
            name: picture.getvalue()
            for name in ("samples", *(f"traversal_{name}" for name in spec.names))
        },
    )
    return replace(made, **changes)
