"""Choosing one of a study's runs without labels: by which score, and what that can be checked by.

A study has one choice. Where codes are to be disentangled, that is with ``--contrastive`` or where
there is no categorical code, it is by *centrality* (``centrality.py``); else by *neighbourhood*
(``neighbourhood.py``), which looks at categories.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fastinfogan.config import TrainConfig


class Choice(NamedTuple):
    """What runs are chosen by.

    Attributes:
        score: its name among the numbers of a run; more is better.
        checked_by: the name of the number that says, where labels or factors are known, whether it
            is right.
        best: the rank correlation of the two if it always is: 1, or -1 with an error.
    """

    score: str
    checked_by: str
    best: int


NEIGHBOURHOOD = Choice("neighbourhood", "error", -1)
CENTRALITY = Choice("centrality", "FactorVAE score", 1)
CHOICES = {choice.score: choice for choice in (NEIGHBOURHOOD, CENTRALITY)}
FEWEST_RANKED = 5  # seeds: of fewer, a rank correlation says nothing


def choice_of(config: TrainConfig) -> Choice | None:
    """What the runs of a configuration are chosen by; None: one code that is no category says none.

    Args:
        config: resolved.
    """
    spec = config.spec
    sorts = any(spec.codes[i].has_categories for i in spec.regularized)
    if sorts and not config.optim.contrastive:
        return NEIGHBOURHOOD
    return CENTRALITY if len(spec.regularized) > 1 else None


def choose(scores: Mapping[int, float]) -> int | None:
    """The seed with the best score; of equals the first. None where nothing was scored."""
    return max(scores, key=scores.get, default=None)


def rank_correlation(scores: Mapping[int, float], known: Mapping[int, float]) -> float | None:
    """Spearman's rank correlation of the scores with what is known of the runs, over the seeds.

    None for fewer than five seeds that have both, and where all have the same.
    """
    from scipy.stats import spearmanr

    seeds = [s for s in scores if s in known]
    ours, theirs = [scores[s] for s in seeds], [known[s] for s in seeds]
    if len(seeds) < FEWEST_RANKED or len(set(ours)) == 1 or len(set(theirs)) == 1:
        return None
    return float(spearmanr(ours, theirs).statistic)
