"""What a rendered dataset hands over to be ingested: every image is a function of its number."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from fastinfogan.data.dataset import LoadRequest
from fastinfogan.data.factors import Factor
from fastinfogan.data.images import Annotations
from fastinfogan.data.ingest.source import Items, Source, array_items
from fastinfogan.errors import UserError

BLOCK_ROWS = 64  # rendered at once: their rays fill a processor's cache


def rendered_source(
    request: LoadRequest,
    dataset: str,
    version: int,
    side: int,
    factors: tuple[Factor, ...],
    values: Callable[[], np.ndarray],
    draw: Callable[[np.ndarray], np.ndarray],
) -> Source:
    """The source of a rendered dataset.

    Args:
        request: what was asked for; both splits are the same images.
        dataset: its name in the registry.
        version: to be raised when the images change.
        side: pixels.
        factors: (F,), what its factors are.
        values: makes int64 (N, F), the factors of all images.
        draw: given some rows of them, the images: uint8 (n, side, side).

    Raises:
        UserError: a ``--data-dir``, of which there is no use.
    """
    refuse_data_dir(request, dataset)
    return Source(
        dataset=dataset,
        split="all",
        shape=(side, side, 1),
        identity=f"version {version}",
        preprocessing={},
        what="images",
        where=f"--dataset {dataset}",
        open=lambda: _items(values(), draw, factors),
        factors=factors,
    )


def refuse_data_dir(request: LoadRequest, dataset: str) -> None:
    """Say that rendered images are read from nowhere.

    Raises:
        UserError: there is a ``--data-dir``.
    """
    if request.data_dir is not None:
        raise UserError(
            f"--data-dir {str(request.data_dir)!r} does not go with --dataset {dataset}, which "
            "are rendered when they are asked for; drop it"
        )


def _items(
    values: np.ndarray, draw: Callable[[np.ndarray], np.ndarray], factors: tuple[Factor, ...]
) -> Items:
    def rows(start: int) -> Iterator[np.ndarray]:
        for first in range(start, len(values), BLOCK_ROWS):
            yield draw(values[first : first + BLOCK_ROWS])[..., None]

    names = tuple(factor.name for factor in factors)
    return array_items(
        len(values), rows, lambda kept: Annotations(factors=values[kept], factor_names=names)
    )
