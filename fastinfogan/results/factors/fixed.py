"""Scores from images that share the value of one factor: FactorVAE's and beta-VAE's.

Both ask which factor it is. Images are drawn with replacement from those that there are, so a full
grid of the factors' values isn't needed; but a value that only one image has can't be shared.
"""

from __future__ import annotations

import numpy as np

from fastinfogan.results.factors.codes import Codes
from fastinfogan.results.factors.protocol import BATCH, LEAST_STD, TEST_VOTES, VOTES

_BLOCK = 250  # votes in memory at a time


class Shared:
    """The images that have a value of one factor in common, for every value that two or more have.

    Args:
        values: integers (N,), the factor's.
    """

    def __init__(self, values: np.ndarray) -> None:
        which, counts = np.unique(values, return_inverse=True, return_counts=True)[1:]
        self._order = np.argsort(which, kind="stable")
        self._first, self._count, self._which = np.cumsum(counts) - counts, counts, which
        self._some = np.flatnonzero(counts[which] > 1)

    def __bool__(self) -> bool:
        return len(self._some) > 0

    def draw(self, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
        """int64 of this shape: any images that have a value in common with another one."""
        return self._some[random.integers(len(self._some), size=shape)]

    def like(self, images: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """int64 (...): for each of the images (...) one with the same value, or itself."""
        which = self._which[images]
        return self._order[self._first[which] + random.integers(self._count[which])]


def variances(codes: Codes) -> np.ndarray:
    """Of each code, over all images; of a category the chance that two of them differ in it."""
    return np.array([column.var(axis=0, ddof=1).sum() for column in codes.columns()])


def voters(overall: np.ndarray) -> np.ndarray:
    """Numbers of the codes that vary enough, by ``variances``, to vote for the FactorVAE score."""
    return np.flatnonzero(np.sqrt(overall) >= LEAST_STD)


def factor_vae(
    codes: Codes,
    factors: list[Shared],
    random: np.random.Generator,
    votes: tuple[int, int] = (VOTES, TEST_VOTES),
) -> float:
    """The FactorVAE score (Kim and Mnih 2018, section 4).

    Of 64 images that share one factor's value, the code whose variance is the smallest share of its
    variance over all images votes for that factor. A majority of the first 10,000 votes says which
    factor each code stands for; the score is how many of 5,000 others it has right. The variance of
    a categorical code is the chance that two images differ in it (ibid., on discrete latents).
    Codes with a standard deviation below 0.05 don't vote; 0 if none does.

    Args:
        codes: of N images.
        factors: two or more, of the same images.
        random: draws factors and images.
        votes: how many say what each code stands for, and how many test that.
    """
    columns, overall = codes.columns(), variances(codes)
    active = voters(overall)
    if not len(active):
        return 0.0
    counts = []
    for count in votes:
        which = random.integers(len(factors), size=count)
        table = np.zeros((len(factors), len(active)), np.int64)
        for number, shared in enumerate(factors):
            for block in _blocks((which == number).sum()):
                one = shared.draw((block, 1), random)
                images = shared.like(np.repeat(one, BATCH, axis=1), random)
                spread = [columns[i][images].var(axis=1, ddof=1).sum(axis=1) for i in active]
                least = (np.stack(spread, axis=1) / overall[active]).argmin(axis=1)
                table[number] += np.bincount(least, minlength=len(active))
        counts.append(table)
    learned, tested = counts
    meant = learned.argmax(axis=0)
    return float(tested[meant, np.arange(len(active))].sum() / tested.sum())


def beta_vae(codes: Codes, factors: list[Shared], random: np.random.Generator) -> float:
    """The beta-VAE score (Higgins et al. 2017, Algorithm 1).

    Of 64 pairs of images that share one factor's value, the mean |c - c'| of each code goes to a
    logistic regression, which says which factor it is. It learns from 10,000 such means; the score
    is how many of 5,000 others it has right. Of a categorical code |c - c'| is 1 if the two differ.

    Args:
        codes: of N images.
        factors: two or more, of the same images.
        random: draws factors and images.
    """
    from sklearn.linear_model import LogisticRegression

    discrete = np.array(codes.categories) > 0
    sets = []
    for votes in (VOTES, TEST_VOTES):
        means, labels = [], []
        which = random.integers(len(factors), size=votes)
        for number, shared in enumerate(factors):
            for block in _blocks((which == number).sum()):
                one = shared.draw((block, BATCH), random)
                apart = np.abs(codes.values[one] - codes.values[shared.like(one, random)])
                apart[..., discrete] = apart[..., discrete] > 0
                means.append(apart.mean(axis=1))
                labels.append(np.full(block, number))
        sets.append((np.concatenate(means), np.concatenate(labels)))
    (ours, known), (theirs, wanted) = sets
    line = LogisticRegression(max_iter=1000).fit(ours, known)
    return float((line.predict(theirs) == wanted).mean())


def _blocks(total: int) -> list[int]:
    """So many votes, in parts."""
    return [min(_BLOCK, total - first) for first in range(0, total, _BLOCK)]
