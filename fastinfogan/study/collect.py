"""What a study's finished runs come to: a row each, statistics, the choice without labels."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from fastinfogan.data import ImageData
from fastinfogan.data.progress import ProgressReport
from fastinfogan.errors import UserError
from fastinfogan.results.eval_mode import in_eval_mode
from fastinfogan.results.factors.measure import SCORES
from fastinfogan.results.run import Run, images_of, load_run
from fastinfogan.sizes import counted
from fastinfogan.study import centrality, neighbourhood
from fastinfogan.study.choice import CENTRALITY, NEIGHBOURHOOD, choice_of, choose, rank_correlation
from fastinfogan.study.folder import (
    Study,
    best_clustering,
    is_unwritable,
    known_rows,
    locked,
    read_study,
    write_study,
)
from fastinfogan.tell import Tell, on_stderr
from fastinfogan.training.metrics import read_metrics


def collect(study: Study, tell: Tell = on_stderr) -> dict[str, Any]:
    """Look at every finished run, write what was found to study.json, and return it.

    Runs are read once: what was found of a seed stays in study.json.

    Args:
        study: whose.
        tell: gets a line for what is damaged.
    """
    try:
        with locked(study.folder, tell):
            # Others may have let seeds join meanwhile.
            seeds = {*study.seeds, *read_study(study.folder).seeds}
            study = replace(study, seeds=tuple(sorted(seeds)))
            found, _ = _collected(study, tell)
            write_study(study, found)
            return found
    except OSError as error:
        if not is_unwritable(error):
            raise
    return looked_at(study, tell)


def looked_at(study: Study, tell: Tell = on_stderr) -> dict[str, Any]:
    """What ``collect`` would return, and nothing written: others' studies can be looked at.

    Args:
        study: whose.
        tell: gets a line for what is damaged, and for runs that study.json doesn't have.
    """
    found, new = _collected(study, tell)
    if new:
        tell(
            f"{study.folder}: {counted(new, 'run')} looked at now, which study.json doesn't have; "
            "it stays as it is"
        )
    return found


def _collected(study: Study, tell: Tell) -> tuple[dict[str, Any], int]:
    """What is found of a study, and how many runs were looked at for it."""
    new, known = 0, known_rows(study, tell)
    seeds: dict[int, dict[str, Any]] = {}
    by = choice_of(study.config)
    judged: tuple[ImageData, np.ndarray] | None = None
    for seed in study.seeds:
        summary = study.summary(seed)
        if summary is None:
            continue
        row = known.get(seed)
        scored = by is NEIGHBOURHOOD and (row is None or by.score not in row["numbers"])
        if row is None or scored:
            if scored and judged is None:
                data = images_of(study.config, "test")
                judged = data, neighbourhood.nearest(data.images[: neighbourhood.MOST_IMAGES])
            try:
                row = row_of(study, seed, summary, judged)
            except UserError as error:  # a damaged run is no reason to lose sight of the others
                tell(f"seed {seed} is left out: {error}")
                continue
            new += 1
        seeds[seed] = row
    if by is CENTRALITY:
        _compare_all(study, seeds, tell)
    numbers = {seed: row["numbers"] for seed, row in seeds.items()}
    scores, checked = (
        {seed: own[name] for seed, own in numbers.items() if by is not None and name in own}
        for name in (by or CENTRALITY)[:2]
    )
    found = {
        "seeds": {str(seed): row for seed, row in seeds.items()},
        "statistics": statistics_of(list(numbers.values())),
        "collapsed": [seed for seed, row in seeds.items() if row["collapsed"]],
        "chosen": choose(scores),
        "chosen_by": None if by is None else by.score,
        "rank_correlation": rank_correlation(scores, checked),
    }
    return found, new


def _compare_all(study: Study, seeds: dict[int, dict[str, Any]], tell: Tell) -> None:
    """Score the runs by how much they resemble each other: each row gets what is found of it."""
    known = {
        (seed, int(other)): one
        for seed, row in seeds.items()
        for other, one in row.get("similarity", {}).items()
        if other.isdecimal() and seed < int(other)
    }

    def load(seed: int) -> Run:
        return load_run(study.run_folder(seed), tell=tell)

    there = []
    for seed in seeds:
        try:
            if any((min(p), max(p)) not in known for p in ((seed, o) for o in seeds if o != seed)):
                load(seed)
            there.append(seed)
        except UserError as error:  # as above
            tell(f"seed {seed} isn't compared: {error}")
    new = 2 * sum(pair not in known for pair in combinations(there, 2))
    with ProgressReport("comparing runs", new, True, on_stderr) as progress:
        found = centrality.similarities(there, known, load, progress.update)
    central = centrality.centralities(found)
    for seed, row in seeds.items():
        row["numbers"].pop(CENTRALITY.score, None)
        if seed in central:
            row["numbers"][CENTRALITY.score] = central[seed]
        row["similarity"] = {str(other): one for other, one in found.get(seed, {}).items()}


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
        ``curve``: iterations and errors; ``device`` and ``versions``. (Centrality and similarity,
        which take several runs, join them later.)
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
    config = study.config
    run = load_run(study.run_folder(seed))
    if judged is not None:
        data, neighbours = judged
        with in_eval_mode(run.discriminator):
            numbers[NEIGHBOURHOOD.score] = neighbourhood.neighbourhood(
                run.discriminator, config.spec, data, neighbours, config.architecture.output_range
            )
    for code in evaluation["codes"]:
        numbers[f"L_I {code['name']}"] = code["mi"]
        if code["correlation"] is not None:
            numbers[f"corr. {code['name']}"] = abs(code["correlation"])
    if (factors := evaluation.get("disentanglement")) is not None:
        for name, label in SCORES.items():
            if (score := factors["scores"].get(name)) is not None:
                numbers[label] = score
        for one in factors["correlations"]:
            numbers[f"corr. {one['factor']}"] = abs(one["value"])
    numbers["seconds"] = summary["seconds"]
    return {
        "numbers": numbers,
        "collapsed": bool(summary.get("collapse")),  # older runs didn't watch for it
        "curve": curve_of(read_metrics(run.folder / "metrics.jsonl", config.spec)),
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
