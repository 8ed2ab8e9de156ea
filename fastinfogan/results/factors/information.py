"""Scores of the mutual information between factors and codes: MIG and modularity."""

from __future__ import annotations

import numpy as np


def mutual_information(bins: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """I(c; v) of every code and factor, in nats, of their joint histogram.

    Args:
        bins: integers (N, D), the codes.
        factors: integers (N, F).

    Returns:
        float64 (D, F).
    """
    from sklearn.metrics import mutual_info_score

    table = [[mutual_info_score(v, c) for v in factors.T] for c in bins.T]
    # Of independent samples rounding may leave a little less than nothing.
    return np.maximum(np.array(table).reshape(bins.shape[1], factors.shape[1]), 0.0)


def entropies(factors: np.ndarray) -> np.ndarray:
    """H(v) of every factor, in nats: float64 (F,) from integers (N, F)."""
    found = []
    for column in factors.T:
        shares = np.unique(column, return_counts=True)[1] / len(column)
        found.append(-(shares * np.log(shares)).sum())
    return np.array(found)


def mig(information: np.ndarray, entropy: np.ndarray) -> float:
    """The mutual information gap (Chen, Li, Grosse and Duvenaud 2018, Equation 6).

        MIG = mean over v of (I(c_1; v) - I(c_2; v)) / H(v)

    where c_1 and c_2 are the two codes that know most of v. 1 is best: one code knows all of v,
    and no other anything.

    Args:
        information: (D, F), D >= 2.
        entropy: (F,), none of them 0.
    """
    second, first = np.sort(information, axis=0)[-2:]
    return float(((first - second) / entropy).mean())


def modularity(information: np.ndarray) -> float:
    """How far each code knows of one factor only (Ridgeway and Mozer 2018, section 3).

    With m = max over v of I(c; v), a code that knew of one factor only would have the template
    (0, .., m, .., 0), from which it is off by

        delta = sum over the other v of I(c; v)^2 / (m^2 (F - 1))

    and the score is the mean of 1 - delta over the codes; 0 is given to one that knows nothing.
    Noise doesn't score 0: the little information that few points seem to have counts as well.

    Args:
        information: (D, F), F >= 2.
    """
    squares = information**2
    best = squares.max(axis=1)
    knows = best > 0
    off = (squares.sum(axis=1) - best)[knows] / (best[knows] * (squares.shape[1] - 1))
    return float((1.0 - off).sum() / len(squares))
