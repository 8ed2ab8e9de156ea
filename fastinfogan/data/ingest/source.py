"""What a dataset hands over to be ingested: its files, found, listed and, for arrays, read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fastinfogan.data.factors import Factor
from fastinfogan.data.images import Annotations
from fastinfogan.data.ingest.encoded import EncodedFiles
from fastinfogan.data.ingest.preprocess import Preprocess


class DecodedBlock(NamedTuple):
    """Consecutive items of a source, decoded.

    Attributes:
        items: how many were looked at.
        rows: uint8 (items - bad, H, W, C), of the good ones.
        bad: (item, name, reason) of the others.
        notes: how many of the good ones each of ``notes``' words is true of.
    """

    items: int
    rows: np.ndarray
    bad: list[tuple[int, str, str]]
    notes: Mapping[str, int] = MappingProxyType({})


# Given encoded files, what to make of them and the first one's number: all from there on, in order.
Decode = Callable[[EncodedFiles, Preprocess, int], Iterator[DecodedBlock]]


@dataclass(frozen=True)
class Items:
    """The opened files of a source.

    Attributes:
        count: items, good or bad, in a fixed order.
        blocks: from a first item on, every block in order; how encoded files are decoded is handed
            in.
        annotate: given the items that were good, int64 and ascending, what is known of each.
        skipped: (path, reason) of what can't even be listed as an item.
        of: items of both splits together; None: there are no others.
        notes: what the user should know of what was opened, in lines.
    """

    count: int
    blocks: Callable[[int, Decode], Iterator[DecodedBlock]]
    annotate: Callable[[np.ndarray], Annotations] = lambda kept: Annotations()
    skipped: Sequence[tuple[str, str]] = ()
    of: int | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Source:
    """One split of a dataset as its distributor lays it out, found but not yet opened.

    Attributes:
        dataset: its name in the registry.
        split: "train", "test", or "all" where both are the same images.
        shape: (H, W, C) of a row.
        identity: changes whenever the files do (see ``encoded.identity``).
        preprocessing: JSON; together with the identity it names the cache.
        what: the items' name in messages, e.g. "image files".
        where: what an error about them starts with, e.g. "--data-dir 'photos'".
        open: lists the items, which may take seconds.
        notes: what the user should know of what was found, in lines; ``Items`` has those that
            it takes opening for.
        factors: what its factors are, by name; those that it doesn't list are categorical. No part
            of the cache, which holds the factors' names and values.
    """

    dataset: str
    split: str
    shape: tuple[int, int, int]
    identity: str
    preprocessing: Mapping[str, Any]
    what: str
    where: str
    open: Callable[[], Items] = field(repr=False)
    notes: Sequence[str] = ()
    factors: Sequence[Factor] = ()


def encoded_items(
    files: EncodedFiles,
    preprocess: Preprocess,
    annotate: Callable[[np.ndarray], Annotations] = lambda kept: Annotations(),
    skipped: Sequence[tuple[str, str]] = (),
    of: int | None = None,
    notes: Sequence[str] = (),
) -> Items:
    """Items that are encoded image files.

    Args:
        files: the files.
        preprocess: what is made of each.
        annotate, skipped, of, notes: as in ``Items``.
    """
    return Items(
        count=len(files.names),
        blocks=lambda start, decode: decode(files, preprocess, start),
        annotate=annotate,
        skipped=skipped,
        of=of,
        notes=notes,
    )


def array_items(
    count: int,
    rows: Callable[[int], Iterator[np.ndarray]],
    annotate: Callable[[np.ndarray], Annotations],
) -> Items:
    """Items that are decoded already.

    Args:
        count: how many.
        rows: from a first item on, uint8 arrays (n, H, W, C).
        annotate: as in ``Items``.
    """
    return Items(
        count=count,
        blocks=lambda start, decode: (DecodedBlock(len(part), part, []) for part in rows(start)),
        annotate=annotate,
    )
