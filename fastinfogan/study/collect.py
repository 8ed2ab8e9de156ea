"""What a study's finished runs come to: a row each, statistics, the choice without labels."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np

from fastinfogan.data import ImageData
from fastinfogan.errors import UserError
from fastinfogan.files import atomic_write
from fastinfogan.results.eval_mode import in_eval_mode
from fastinfogan.results.run import images_of, load_run
from fastinfogan.study import choice
from fastinfogan.study.folder import (
    Study,
    best_clustering,
    known_rows,
    locked,
    read_study,
    write_study,
)
from fastinfogan.tell import Tell, on_stderr
from fastinfogan.training.metrics import read_metrics

CATEGORIES = "categories.npy"  # in a run's folder
NPY_HEADER = 128  # bytes


def collect(study: Study, tell: Tell = on_stderr) -> dict[str, Any]:
    """Look at every finished run, write what was found to study.json, and return it.

    Runs are read once: what was found of a seed stays in study.json.

    Args:
        study: whose.
        tell: gets a line for what is damaged.
    """
    with locked(study.folder, tell):
        # Others may have let seeds join meanwhile.
        seeds = {*study.seeds, *read_study(study.folder).seeds}
        found = _collected(replace(study, seeds=tuple(sorted(seeds))), tell)
    return found


def _collected(study: Study, tell: Tell) -> dict[str, Any]:
    seeds, categories = _rows(study, known_rows(study, tell), tell)
    if len({seen.shape for seen in categories.values()}) > 1:
        tell(f"{study.folder}: its runs saw different images; all are looked at again, on today's")
        seeds, categories = _rows(study, {}, tell)
    for seed, value in choice.agreement(categories).items():
        seeds[seed]["scores"]["agreement"] = value
    scores = {seed: row["scores"] for seed, row in seeds.items()}
    errors = {s: row["numbers"]["error"] for s, row in seeds.items() if "error" in row["numbers"]}
    found = {
        "seeds": {str(seed): row for seed, row in seeds.items()},
        "statistics": statistics_of([row["numbers"] for row in seeds.values()]),
        "collapsed": [seed for seed, row in seeds.items() if row["collapsed"]],
        "chosen": choice.choose(scores),
        "chosen_by": choice.CHOSEN_BY,
        "rank_correlations": choice.rank_correlations(scores, errors),
    }
    write_study(study, found)
    return found


def _rows(
    study: Study, known: Mapping[int, dict[str, Any]], tell: Tell
) -> tuple[dict[int, dict[str, Any]], dict[int, np.ndarray]]:
    """Of each finished run what is found, and the categories that it saw where it has any.

    Args:
        study: whose.
        known: what was found before.
        tell: gets a line for each that can't be looked at.
    """
    rows: dict[int, dict[str, Any]] = {}
    categories: dict[int, np.ndarray] = {}
    data: ImageData | None = None
    for seed in study.seeds:
        summary = study.summary(seed)
        if summary is None:
            continue
        row, seen = known.get(seed), _read_categories(study, seed)
        if row is None or (row["scores"] and seen is None):
            data = images_of(study.config, "test") if data is None else data
            try:
                row, seen = row_of(study, seed, summary, data), _read_categories(study, seed)
            except UserError as error:  # a damaged run is no reason to lose sight of the others
                tell(f"seed {seed} is left out: {error}")
                continue
        rows[seed] = row
        if row["scores"] and seen is not None:
            categories[seed] = seen
    return rows, categories


def row_of(study: Study, seed: int, summary: Mapping[str, Any], data: ImageData) -> dict[str, Any]:
    """What is found of one finished run.

    Returns:
        ``numbers``: error, majority, nmi and ari of the code that fits the labels best (if there
        are any), L_I of each code and the correlation of each continuous one, seconds;
        ``collapsed``: whether the run said so at its end; ``curve``: iterations and errors;
        ``scores`` without labels; ``device`` and ``versions``.
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
    for code in evaluation["codes"]:
        numbers[f"L_I {code['name']}"] = code["mi"]
        if code["correlation"] is not None:
            numbers[f"corr. {code['name']}"] = abs(code["correlation"])
    numbers["seconds"] = summary["seconds"]
    run = load_run(study.run_folder(seed))
    metrics = read_metrics(run.folder / "metrics.jsonl", study.config.spec)
    scores: dict[str, float] = {}
    spec = study.config.spec
    if any(spec.codes[i].has_categories for i in spec.regularized):
        with in_eval_mode(run.discriminator):
            scores, categories = choice.look(
                run.discriminator, spec, data, study.config.jitter,
                study.config.architecture.output_range,
            )  # fmt: skip
        buffer = BytesIO()
        np.save(buffer, categories)
        atomic_write(run.folder / CATEGORIES, buffer.getvalue())
    return {
        "numbers": numbers,
        "collapsed": bool(summary.get("collapse")),  # older runs didn't watch for it
        "curve": curve_of(metrics),
        "scores": scores,
        "device": summary["device"],
        "versions": summary["versions"],
    }


def _read_categories(study: Study, seed: int) -> np.ndarray | None:
    """The categories that a run saw, int64 (codes, images); None where they aren't known."""
    path = study.run_folder(seed) / CATEGORIES
    try:
        with open(path, "rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
        whole = path.stat().st_size == NPY_HEADER + array.nbytes
    except Exception:  # numpy meets damage with many kinds; the run can be looked at again
        return None
    return array if whole and array.ndim == 2 and array.dtype == np.int64 else None


def curve_of(metrics: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """(iteration, error) wherever a run was evaluated on the way."""
    return [
        (row["iteration"], min(code["error_hungarian"] for code in row["evaluation"].values()))
        for row in metrics
        if row.get("evaluation")
    ]


def statistics_of(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Number -> n, mean, std (of the sample), min, max, over the runs that have it."""
    names = dict.fromkeys(name for row in rows for name in row)
    found = {}
    for name in names:
        values = [row[name] for row in rows if name in row and math.isfinite(row[name])]
        if values:
            found[name] = {
                "n": len(values),
                "mean": statistics.fmean(values),
                "std": statistics.stdev(values) if len(values) > 1 else 0.0,
                "min": min(values),
                "max": max(values),
            }
    return found


def compare(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Number -> the means of two studies, and p of the two-sided Mann-Whitney test."""
    from scipy.stats import mannwhitneyu

    found = {}
    columns = [[row["numbers"] for row in study["seeds"].values()] for study in (a, b)]
    for name in a["statistics"]:
        if name not in b["statistics"]:
            continue
        ours, theirs = ([row[name] for row in rows if name in row] for rows in columns)
        found[name] = {
            "mean_a": statistics.fmean(ours),
            "mean_b": statistics.fmean(theirs),
            "p": float(mannwhitneyu(ours, theirs, alternative="two-sided").pvalue),
        }
    return found
