"""Work on many images, batch by batch, which ranks share out among themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fastinfogan.ranks.alone import Ranks

Result = TypeVar("Result")


def in_batches(
    total: int,
    size: int,
    work: Callable[[int, int], Result],
    ranks: Ranks,
    done: Callable[[int], None] = lambda images: None,
) -> list[Result]:
    """What ``work`` gives for each batch, in order; every rank gets all of it.

    Each rank does every so many-th batch. The batches are those of one process, whose libraries may
    sum up otherwise where there are fewer images: so results have the same bits.

    Args:
        total: images.
        size: of a batch; the last one may be smaller.
        work: given a batch's first image and the number of its images, what is wanted of it.
        ranks: who share; all of them call this.
        done: told after each batch how many images that were, with those of the other ranks'.
    """
    own, together = [], size * ranks.size
    for before in range(0, total, together):
        first = before + size * ranks.rank
        if first < total:
            own.append(work(first, min(size, total - first)))
        done(min(together, total - before))
    everyone = ranks.everyone(own)
    batches = range(-(-total // size))
    return [everyone[batch % ranks.size][batch // ranks.size] for batch in batches]
