"""DCI (Eastwood and Williams 2018): trees that predict a factor say which codes they needed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from fastinfogan.cores import usable_cores
from fastinfogan.results.factors.codes import Codes

CUTS = 127  # of a continuous code: trees among them give the scores of those that cut anywhere


def importances(
    train: Codes,
    train_factors: np.ndarray,
    test: Codes,
    test_factors: np.ndarray,
    done: Callable[[], None],
) -> tuple[np.ndarray, np.ndarray]:
    """Which codes tell the value of each factor, and how often all of them together do.

    A factor's classifier is scikit-learn's ``GradientBoostingClassifier`` as it comes (100 rounds
    of trees of depth 3), as in Locatello et al. 2019. Numbers go in as their place among 127
    quantiles, which takes 0.6 of the time and hardly moves a cut; a category as its number.

    Args:
        train, train_factors: codes and integers (N, F) to learn from, each factor of two values
            or more.
        test, test_factors: others, to test on.
        done: told after each factor.

    Returns:
        float64 (D, F): of a factor's classifier, the share of a code in what its cuts gained.
        float64 (F,): the share of test images whose value it finds.
    """
    from sklearn.ensemble import GradientBoostingClassifier

    places, test_places = _places(train, train), _places(train, test)

    def look(factor: int) -> tuple[np.ndarray, float]:
        values = train_factors[:, factor]
        trees = GradientBoostingClassifier(random_state=0).fit(places, values)
        right = trees.predict(test_places) == test_factors[:, factor]
        return trees.feature_importances_, float(right.mean())

    looks = []
    with ThreadPoolExecutor(usable_cores()) as pool:
        for seen in pool.map(look, range(train_factors.shape[1])):
            looks.append(seen)
            done()
    importance, right = zip(*looks, strict=True)
    return np.stack(importance, axis=1), np.array(right)


def _places(known: Codes, codes: Codes) -> np.ndarray:
    """float32 (N, D): numbers as their places among the quantiles of the known ones."""
    found = codes.values.astype(np.float32)
    for i, count in enumerate(known.categories):
        if not count:
            cuts = np.unique(np.quantile(known.values[:, i], np.arange(1, CUTS + 1) / (CUTS + 1)))
            found[:, i] = np.searchsorted(cuts, codes.values[:, i], side="right")
    return found


def disentanglement(importance: np.ndarray) -> float:
    """How far each code serves one factor only (Eastwood and Williams 2018, section 2).

        D_c = 1 - H_F(P_c),    P_cv = R_cv / sum over v of R_cv

    the entropy to the base of F, and its mean over the codes, each weighed by its share in all R.

    Args:
        importance: R, (D, F), F >= 2, none negative.
    """
    return _concentration(importance)


def completeness(importance: np.ndarray) -> float:
    """How far each factor is served by one code only: as ``disentanglement`` of R^T, D >= 2."""
    return _concentration(importance.T)


def _concentration(table: np.ndarray) -> float:
    """1 minus the entropy of each row, to the base of its length, weighed by the row's sum."""
    sums = table.sum(axis=1)
    if not sums.any():
        return 0.0
    shares = table[sums > 0] / sums[sums > 0, None]
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    entropy = -(shares * logs).sum(axis=1) / np.log(table.shape[1])
    return float(((1.0 - entropy) * sums[sums > 0]).sum() / sums.sum())
