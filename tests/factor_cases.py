"""Constructed representations of known factors, for the tests of disentanglement's metrics."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pytest

from fastinfogan.data.factors import Factor
from fastinfogan.results.factors.codes import Codes

SIZES = (3, 4, 5)
ROWS = (Factor("shape"), Factor("size", "ordered"), Factor("place", "ordered"))


def grid(repeats: int, sizes: Sequence[int] = SIZES, seed: int = 0) -> np.ndarray:
    """int64 (N, F): every combination of the values, each so many times, in random order."""
    cells = np.indices(sizes).reshape(len(sizes), -1).T
    rows = np.repeat(cells, repeats, axis=0).astype(np.int64)
    return np.random.default_rng(seed).permutation(rows)


def numbers(*columns: np.ndarray) -> Codes:
    """Continuous codes."""
    return mixed(*((column, 0) for column in columns))


def mixed(*columns: tuple[np.ndarray, int]) -> Codes:
    """Codes, each with its number of categories; 0: it is a number."""
    values = np.stack([np.asarray(column, np.float64) for column, _ in columns], axis=1)
    names = tuple(f"c{i}" for i in range(1, 1 + len(columns)))
    return Codes(names, tuple(count for _, count in columns), values)


def spread(column: np.ndarray) -> np.ndarray:
    """A factor's values on -1 to 1, as a uniform code would have them."""
    return 2.0 * column / column.max() - 1.0


@contextlib.contextmanager
def few_trees() -> Iterator[None]:
    """Inside, DCI's classifiers have a fifth of their rounds of trees, which take most of the time.

    What constructed codes tell of a factor they find all the same.
    """
    from sklearn import ensemble  # not earlier: it takes a second, in every process of tests

    few = partial(ensemble.GradientBoostingClassifier, n_estimators=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensemble, "GradientBoostingClassifier", few)
        yield
