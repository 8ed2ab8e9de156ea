"""How much a study's runs resemble each other: kept in their rows, so no pair is compared twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

from fastinfogan.data.progress import ProgressReport
from fastinfogan.errors import UserError
from fastinfogan.results.run import Run, load_run
from fastinfogan.study.centrality import Pair, centralities, similarities
from fastinfogan.study.choice import CENTRALITY
from fastinfogan.study.folder import Study
from fastinfogan.tell import Tell, on_stderr

KEPT_EVERY = 10.0  # seconds


def compare_all(
    study: Study, rows: Mapping[int, dict[str, Any]], tell: Tell, keep: Callable[[], None]
) -> int:
    """Put into each run's row its ``similarity`` to the others, and how central it is.

    A run all of whose pairs are known isn't loaded. One that is needed and can't be loaded stays as
    similar as it is known to be, and isn't central.

    Args:
        study: whose runs.
        rows: seed -> what is found of its run, ``similarity`` as it was kept.
        tell: gets a line for each run that can't be loaded.
        keep: called now and then, for the rows to be kept as they are then.

    Returns:
        How many pairs were compared.
    """
    known = _known(rows)
    for row in rows.values():  # until all are compared, none is known to be central
        row["numbers"].pop(CENTRALITY.score, None)
        row["similarity"] = {}
    for pair, similarity in known.items():
        _note(rows, pair, similarity)
    gone = set()

    def load(seed: int) -> Run | None:
        try:
            return load_run(study.run_folder(seed), tell=tell)
        except UserError as error:  # a damaged run is no reason to lose sight of the others
            gone.add(seed)
            tell(f"seed {seed} isn't compared: {error}")
            return None

    missing = [pair for pair in combinations(rows, 2) if pair not in known]
    found, kept = dict(known), time.monotonic()
    with ProgressReport("comparing pairs of runs", len(missing), True, on_stderr) as progress:
        for pair, similarity in similarities(missing, load):
            found[pair] = similarity
            _note(rows, pair, similarity)
            progress.update(1)
            if time.monotonic() - kept > KEPT_EVERY:
                keep()
                kept = time.monotonic()
    for seed, score in centralities([seed for seed in rows if seed not in gone], found).items():
        rows[seed]["numbers"][CENTRALITY.score] = score
    return len(found) - len(known)


def _known(rows: Mapping[int, dict[str, Any]]) -> dict[Pair, float]:
    """What the rows say of pairs whose runs both have one."""
    seeds = {str(seed): seed for seed in rows}
    return {
        (min(seed, seeds[other]), max(seed, seeds[other])): similarity
        for seed, row in rows.items()
        for other, similarity in row.get("similarity", {}).items()
        if other in seeds and seeds[other] != seed
    }


def _note(rows: Mapping[int, dict[str, Any]], pair: Pair, similarity: float) -> None:
    for seed, other in (pair, pair[::-1]):
        rows[seed]["similarity"][str(other)] = similarity
