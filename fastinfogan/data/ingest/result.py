"""What became of encoded files: a row each, or why there is none; and blocks of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fastinfogan.data.ingest import pillow
from fastinfogan.data.ingest.encoded import EncodedFiles
from fastinfogan.data.ingest.preprocess import Preprocess
from fastinfogan.data.ingest.source import DecodedBlock


class Result(NamedTuple):
    """What became of a file.

    Attributes:
        row: the decoded file, or why it is of no use.
        notes: what ``notes`` has a word for.
    """

    row: np.ndarray | str
    notes: Sequence[str] = ()


def attempt(
    files: EncodedFiles, preprocess: Preprocess, item: int, data: bytes | None = None
) -> Result:
    noted: list[str] = []
    try:
        data = files.read(item) if data is None else data
        row = pillow.decode(data, preprocess, noted.append, name=files.names[item])
        return Result(row, noted)
    # Pillow meets damaged files with a dozen kinds of exception, archives with a few more; any
    # of them means that this one file is of no use.
    except Exception as error:
        return Result(pillow.reason(error))


def block_of(
    files: EncodedFiles, preprocess: Preprocess, first: int, results: list[Result]
) -> DecodedBlock:
    good = [result.row for result in results if not isinstance(result.row, str)]
    rows = np.stack(good) if good else np.empty((0, *preprocess.shape), np.uint8)
    bad = [
        (first + i, files.names[first + i], result.row)
        for i, result in enumerate(results)
        if isinstance(result.row, str)
    ]
    noted = Counter(note for result in results for note in result.notes)
    return DecodedBlock(len(results), rows, bad, noted)
