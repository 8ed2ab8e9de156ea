"""What a rendered dataset hands over to be ingested: every image is a function of its number."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np

from fastinfogan.cores import usable_cores
from fastinfogan.data.dataset import LoadRequest
from fastinfogan.data.factors import Factor
from fastinfogan.data.images import Annotations
from fastinfogan.data.ingest.source import Items, Source, array_items
from fastinfogan.errors import UserError

BLOCK_ROWS = 64
BLOCKS_AHEAD = 16


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
    if request.data_dir is not None:
        raise UserError(
            f"--data-dir {str(request.data_dir)!r} does not go with --dataset {dataset}, whose "
            "images are rendered here; drop it"
        )
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


def _items(
    values: np.ndarray, draw: Callable[[np.ndarray], np.ndarray], factors: tuple[Factor, ...]
) -> Items:
    def rows(start: int) -> Iterator[np.ndarray]:
        firsts = range(start, len(values), BLOCK_ROWS)
        with _single_threaded(), ThreadPoolExecutor(usable_cores()) as pool:
            tasks = (pool.submit(draw, values[first : first + BLOCK_ROWS]) for first in firsts)
            pending = deque(islice(tasks, BLOCKS_AHEAD))
            try:
                while pending:
                    yield pending.popleft().result()[..., None]
                    pending.extend(islice(tasks, 1))
            finally:
                pool.shutdown(cancel_futures=True)  # on Ctrl-C, do not render the rest first

    names = tuple(factor.name for factor in factors)
    return array_items(
        len(values), rows, lambda kept: Annotations(factors=values[kept], factor_names=names)
    )


@contextlib.contextmanager
def _single_threaded() -> Iterator[None]:
    """Torch keeps to the thread that calls it.

    A block's operations take microseconds: sharing out each of them would cost more than sharing
    out the blocks, and threads that wait for each other spin.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
