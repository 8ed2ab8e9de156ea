"""What is found of one finished run of a study: its numbers, and their curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastinfogan.data import ImageData
from fastinfogan.results.eval_mode import in_eval_mode
from fastinfogan.results.factors.measure import SCORES
from fastinfogan.results.run import load_run
from fastinfogan.study import neighbourhood
from fastinfogan.study.choice import NEIGHBOURHOOD
from fastinfogan.study.folder import Study, best_clustering
from fastinfogan.training.metrics import read_metrics


def row_of(
    study: Study,
    seed: int,
    summary: Mapping[str, Any],
    judged: tuple[ImageData, np.ndarray] | None,
) -> dict[str, Any]:
    """What is found of one finished run.

    Args:
        study: whose run.
        seed: of the run.
        summary: its summary.json.
        judged: images, and their neighbours; None without categories to be judged by them.

    Returns:
        ``numbers``: error, majority, nmi and ari of the code that fits the labels best (if there
        are any), the neighbourhood score (which needs none), L_I of each code and the correlation
        of each continuous one, the scores of disentanglement and each factor's best correlation
        (where factors are known), seconds; ``collapsed``: whether the run said so at its end;
        ``curve``: iterations and errors; ``curves``: those of what factors say, by the names in
        ``numbers``; ``device`` and ``versions``. (Centrality and similarity, which take several
        runs, join them later.)

    Raises:
        UserError: its checkpoint or its metrics can't be read.
    """
    evaluation = summary["evaluation"]
    numbers: dict[str, float] = {}
    if (best := best_clustering(summary)) is not None:
        numbers |= {
            "error": best["error_hungarian"],
            "majority": best["error_majority"],
            "nmi": best["nmi"],
            "ari": best["ari"],
        }
    config, folder = study.config, study.run_folder(seed)
    if judged is not None:
        data, neighbours = judged
        run = load_run(folder)
        with in_eval_mode(run.discriminator):
            numbers[NEIGHBOURHOOD.score] = neighbourhood.neighbourhood(
                run.discriminator, config.spec, data, neighbours, config.architecture.output_range
            )
    for code in evaluation["codes"]:
        numbers[f"L_I {code['name']}"] = code["mi"]
        if code["correlation"] is not None:
            numbers[f"corr. {code['name']}"] = abs(code["correlation"])
    if (factors := evaluation.get("disentanglement")) is not None:
        numbers |= _of_factors(factors)
    numbers["seconds"] = summary["seconds"]
    metrics = read_metrics(folder / "metrics.jsonl", config.spec)
    return {
        "numbers": numbers,
        "collapsed": bool(summary.get("collapse")),  # older runs didn't watch for it
        "curve": curve_of(metrics),
        "curves": curves_of(metrics),
        "device": summary["device"],
        "versions": summary["versions"],
    }


def curve_of(metrics: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """(iteration, error) wherever a run was evaluated on the way."""
    return [
        (row["iteration"], min(code["error_hungarian"] for code in row["evaluation"].values()))
        for row in metrics
        if row.get("evaluation")
    ]


def curves_of(metrics: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Name of a number -> (iteration, value) wherever codes were compared with known factors."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in metrics:
        for name, value in _of_factors(row.get("disentanglement") or {}).items():
            curves.setdefault(name, []).append((row["iteration"], value))
    return curves


def _of_factors(found: Mapping[str, Any]) -> dict[str, float]:
    """The numbers in what was measured of disentanglement, by the names that a study gives them."""
    correlations, scores = found.get("correlations", ()), found.get("scores", {})
    return {
        **{SCORES[name]: scores[name] for name in SCORES if scores.get(name) is not None},
        **{f"corr. {one['factor']}": abs(one["value"]) for one in correlations},
    }
