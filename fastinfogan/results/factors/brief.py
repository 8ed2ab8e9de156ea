"""What of disentanglement is measured while a run trains: the numbers that take a second or two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import compress
from typing import Any

import numpy as np

from fastinfogan.data.factors import Factor
from fastinfogan.results.factors import information, protocol
from fastinfogan.results.factors.codes import Codes
from fastinfogan.results.factors.correlation import best_correlations
from fastinfogan.results.factors.fixed import Shared, factor_vae

BRIEF = ("mig", "factor_vae")  # of ``measure.SCORES``


def measure_briefly(
    codes: Codes, factors: np.ndarray, rows: Sequence[Factor], seed: int
) -> dict[str, Any]:
    """Compare codes with factors, as ``measure.measure`` does, without what learns from them.

    Args:
        codes: of N images, all of which are looked at.
        factors: int64 (N, F), of the same images.
        rows: (F,), what they are.
        seed: of the votes.

    Returns:
        JSON values with the names that ``Disentanglement`` has: ``points``, N; ``scores``, those of
        ``BRIEF``; ``correlations``. On the images that ``measure`` learns from, MIG and the
        correlations are its own; the FactorVAE score, for which it also votes on those that it
        tests on, comes close. (``measure`` counts both where it has no scores of too few images.)
    """
    varies = (factors != factors[:1]).any(axis=0)
    factors, rows = factors[:, varies], list(compress(rows, varies))
    scores: dict[str, float | None] = dict.fromkeys(BRIEF)
    correlations = ()
    if len(codes) >= protocol.FEWEST:
        if rows and codes.varies().any():
            scores |= _scores(codes, factors, seed)
            correlations = best_correlations(codes, factors, rows)
        else:
            scores = dict.fromkeys(BRIEF, 0.0)
    return {
        "points": len(codes),
        "scores": scores,
        "correlations": [asdict(one) for one in correlations],
    }


def _scores(codes: Codes, factors: np.ndarray, seed: int) -> dict[str, float]:
    """Those that can be given."""
    found = {}
    if len(codes.names) > 1:
        table = information.mutual_information(codes.bins(), factors)
        found["mig"] = information.mig(table, information.entropies(factors))
    usable = [images for images in map(Shared, factors.T) if images]
    if len(usable) > 1:
        found["factor_vae"] = factor_vae(codes, usable, np.random.default_rng(seed))
    return found
