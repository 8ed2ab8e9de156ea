"""Explicitness (Ridgeway and Mozer 2018): how well all codes together tell each value."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastinfogan.results.factors.codes import Codes


def explicitness(
    train: Codes,
    train_factors: np.ndarray,
    test: Codes,
    test_factors: np.ndarray,
    done: Callable[[], None],
) -> float:
    """The mean area under the ROC curve of classifiers of each value of each factor (section 3).

    One logistic regression for each value against the rest, on all codes, each scaled to mean 0 and
    deviation 1. 1 is best, 1/2 is chance. The mean is over a factor's values, then over factors.

    Args:
        train, train_factors: codes and integers (N, F) to learn from, each factor of two values
            or more.
        test, test_factors: others, to test on; values that none or all of them have are left out.
        done: told after each factor.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    ours, theirs = np.hstack(train.columns()), np.hstack(test.columns())
    mean, deviation = ours.mean(axis=0), ours.std(axis=0)
    deviation[deviation == 0.0] = 1.0
    ours, theirs = (ours - mean) / deviation, (theirs - mean) / deviation
    areas = []
    for known, wanted in zip(train_factors.T, test_factors.T, strict=True):
        values = np.unique(known)
        # Of two values either's curve has the same area.
        of_factor = []
        for value in values[: 1 if len(values) == 2 else None]:
            shown = wanted == value
            if shown.any() and not shown.all():
                line = LogisticRegression(max_iter=1000).fit(ours, known == value)
                of_factor.append(roc_auc_score(shown, line.decision_function(theirs)))
        areas.append(np.mean(of_factor) if of_factor else 0.5)
        done()
    return float(np.mean(areas))
