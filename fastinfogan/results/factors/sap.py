"""SAP (Kumar, Sattigeri and Balakrishnan 2018): how much better one code tells a factor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastinfogan.results.factors.codes import Codes


def accuracies(
    train: Codes,
    train_factors: np.ndarray,
    test: Codes,
    test_factors: np.ndarray,
    done: Callable[[], None],
) -> np.ndarray:
    """How well each code alone tells each factor: the share of test images that it has right.

    The classifier is linear, one value against the rest (``LinearSVC``, C = 0.01, values weighed as
    if each were as frequent), as in Locatello et al. 2019.

    Args:
        train, train_factors: codes and integers (N, F) to learn from, each factor of two values
            or more.
        test, test_factors: others, to test on.
        done: told after each factor.

    Returns:
        float64 (D, F).
    """
    from sklearn.svm import LinearSVC

    found = np.zeros((len(train.names), train_factors.shape[1]))
    columns = list(zip(train.columns(), test.columns(), strict=True))
    for factor in range(train_factors.shape[1]):
        for code, (ours, theirs) in enumerate(columns):
            # With a column or a few, the primal problem has the same solution, and is quicker.
            svm = LinearSVC(C=0.01, class_weight="balanced", dual=False)
            svm.fit(ours, train_factors[:, factor])
            found[code, factor] = (svm.predict(theirs) == test_factors[:, factor]).mean()
        done()
    return found


def sap(accuracy: np.ndarray) -> float:
    """The separated attribute predictability (Kumar et al. 2018, section 3).

        SAP = mean over v of S(c_1, v) - S(c_2, v)

    where c_1 and c_2 are the two codes that tell v best. A code that knows nothing still tells v by
    chance, so that even perfect codes score 1/2 for factors of two values; and a number alone can't
    tell the values in the middle by a linear rule.

    Args:
        accuracy: S, (D, F), D >= 2.
    """
    second, first = np.sort(accuracy, axis=0)[-2:]
    return float((first - second).mean())
