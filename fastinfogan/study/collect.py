"""What a study's finished runs come to: a row each, statistics, the choice without labels."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastinfogan.data import ImageData
from fastinfogan.errors import UserError
from fastinfogan.results.run import images_of
from fastinfogan.sizes import counted
from fastinfogan.study import neighbourhood
from fastinfogan.study.choice import (
    CENTRALITY,
    NEIGHBOURHOOD,
    Choice,
    choice_of,
    choose,
    rank_correlation,
)
from fastinfogan.study.comparing import compare_all
from fastinfogan.study.folder import (
    Study,
    collecting,
    is_unwritable,
    known_rows,
    locked,
    read_study,
    write_study,
)
from fastinfogan.study.row import row_of
from fastinfogan.tell import Tell, on_stderr


def collect(study: Study, tell: Tell = on_stderr) -> dict[str, Any]:
    """Look at every finished run, write what was found to study.json, and return it.

    What was found of a run stays in study.json, and so does how much two runs resemble each other:
    a run is looked at once, and a pair compared once. One process does so at a time; meanwhile
    others may begin their runs, and let seeds join.

    Args:
        study: whose.
        tell: gets a line for what is damaged.
    """

    def joined() -> Study:
        """With the seeds that others have let join."""
        seeds = {*study.seeds, *read_study(study.folder).seeds}
        return replace(study, seeds=tuple(sorted(seeds)))

    def keep(found: dict[str, Any]) -> None:
        with locked(study.folder, tell):
            write_study(joined(), found)

    try:
        with collecting(study.folder, tell):
            return _collected(joined(), tell, keep)[0]
    except OSError as error:
        if not is_unwritable(error):
            raise
    return looked_at(study, tell)


def looked_at(study: Study, tell: Tell = on_stderr) -> dict[str, Any]:
    """What ``collect`` would return, and nothing written: others' studies can be looked at.

    Args:
        study: whose.
        tell: gets a line for what is damaged, and for what study.json doesn't have.
    """
    found, runs, pairs = _collected(study, tell, lambda found: None)
    new = [f"{counted(runs, 'run')} looked at"] * bool(runs)
    new += [f"{counted(pairs, 'pair')} of runs compared"] * bool(pairs)
    if new:
        tell(
            f"{study.folder}: {', '.join(new)} now, which study.json doesn't have; it stays as it "
            "is"
        )
    return found


def _collected(
    study: Study, tell: Tell, keep: Callable[[dict[str, Any]], None]
) -> tuple[dict[str, Any], int, int]:
    """What is found of a study; how many runs were looked at for it, and how many pairs compared.

    Args:
        study: with all its seeds.
        tell: gets lines.
        keep: called with what is found at the end, and on the way there if that is long.
    """
    new, pairs, known = 0, 0, known_rows(study, tell)
    rows: dict[int, dict[str, Any]] = {}
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
        rows[seed] = row
    if by is CENTRALITY:
        pairs = compare_all(study, rows, tell, lambda: keep(_found(rows, by)))
    found = _found(rows, by)
    keep(found)
    return found, new, pairs


def _found(rows: Mapping[int, dict[str, Any]], by: Choice | None) -> dict[str, Any]:
    """What the rows of runs, by their seeds, come to."""
    numbers = {seed: row["numbers"] for seed, row in rows.items()}
    scores, checked = (
        {seed: own[name] for seed, own in numbers.items() if by is not None and name in own}
        for name in (by or CENTRALITY)[:2]
    )
    return {
        "seeds": {str(seed): row for seed, row in rows.items()},
        "statistics": statistics_of(list(numbers.values())),
        "collapsed": [seed for seed, row in rows.items() if row["collapsed"]],
        "chosen": choose(scores),
        "chosen_by": None if by is None else by.score,
        "rank_correlation": rank_correlation(scores, checked),
    }


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
