"""Blocks by DALI: this thread reads ahead while DALI's threads decode; odd files go to a pool."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastinfogan.data.ingest import dali, notes, pillow
from fastinfogan.data.ingest.encoded import EncodedFiles
from fastinfogan.data.ingest.preprocess import Preprocess
from fastinfogan.data.ingest.result import Result, attempt, block_of
from fastinfogan.data.ingest.source import DecodedBlock
from fastinfogan.tell import Tell

# A block ends with whichever comes first. Pixels: 100 MB decoded, of which DALI holds a few.
BLOCK_FILES, BLOCK_PIXELS, BLOCK_BYTES = 256, 1 << 25, 1 << 26
JPEG_START = b"\xff\xd8"


@dataclass
class _Batch:
    """What was read for one block.

    Attributes:
        first: number of the first item.
        items: how many there are.
        plain: those that DALI decodes.
        data: the content of each of these.
        squares: (left, top, width, height) of what is cut from each of these.
        others: what Pillow makes of the rest, by item.
    """

    first: int
    items: int = 0
    plain: list[int] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    squares: list[tuple[int, int, int, int]] = field(default_factory=list)
    others: dict[int, Future[Result]] = field(default_factory=dict)


class _Feeder:
    """DALI's source: batches read from files, remembered until their results are there.

    Args:
        files: the encoded files.
        preprocess: what is made of each.
        start: number of the first one.
        pool: where Pillow decodes what isn't for DALI.
        reduce: leave JPEGs that are far too large to Pillow, which decodes them reduced.
    """

    def __init__(
        self,
        files: EncodedFiles,
        preprocess: Preprocess,
        start: int,
        pool: ThreadPoolExecutor,
        reduce: bool,
    ) -> None:
        self.pending: deque[_Batch] = deque()
        self.refused: set[str] = set()  # names of files that look right, and DALI gave up on
        self._replay: deque[_Batch] = deque()
        self._files, self._preprocess, self._pool = files, preprocess, pool
        self._batches = self._read(start, reduce)
        # DALI takes no empty batch: this stands in where no file is for it.
        from PIL import Image

        buffer = io.BytesIO()
        Image.new("L", (1, 1)).save(buffer, "JPEG")
        self._nothing = buffer.getvalue()

    def __call__(self) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        if self._replay:
            batch = self._replay.popleft()
        else:
            batch = next(self._batches)
            self.pending.append(batch)
        return _for_dali(batch.data or [self._nothing], batch.squares or [(0, 0, 1, 1)])

    def start_again(self) -> None:
        """Feed the pending batches once more, to a new pipeline, without what it refused."""
        for batch in self.pending:
            keep = []
            for place, item in enumerate(batch.plain):
                if self._files.names[item] in self.refused:
                    batch.others[item] = self._by_pillow(item, batch.data[place])
                else:
                    keep.append(place)
            batch.plain = [batch.plain[place] for place in keep]
            batch.data = [batch.data[place] for place in keep]
            batch.squares = [batch.squares[place] for place in keep]
        self._replay = deque(self.pending)

    def _by_pillow(self, item: int, data: bytes) -> Future[Result]:
        return self._pool.submit(attempt, self._files, self._preprocess, item, data)

    def _read(self, start: int, reduce: bool) -> Iterator[_Batch]:
        from PIL import Image

        files, preprocess = self._files, self._preprocess
        batch, pixels, size = _Batch(start), 0, 0
        for item in range(start, len(files.names)):
            try:
                data = files.read(item)
            except Exception as error:
                failed: Future[Result] = Future()
                failed.set_result(Result(pillow.reason(error)))
                batch.others[item] = failed
            else:
                shape = dali.plain_size(data)
                if (
                    shape is None
                    or files.names[item] in self.refused
                    or shape[0] * shape[1] > (Image.MAX_IMAGE_PIXELS or 1 << 62)
                    or (reduce and data[:2] == JPEG_START and preprocess.reducible(*shape))
                ):
                    batch.others[item] = self._by_pillow(item, data)
                else:
                    width, height = shape
                    side = preprocess.side(width, height)
                    batch.plain.append(item)
                    batch.data.append(data)
                    corner = (width - side) // 2, (height - side) // 2
                    batch.squares.append((*corner, side, side))
                    pixels += width * height
                size += len(data)
            batch.items += 1
            if batch.items == BLOCK_FILES or pixels >= BLOCK_PIXELS or size >= BLOCK_BYTES:
                yield batch
                batch, pixels, size = _Batch(item + 1), 0, 0
        if batch.items:
            yield batch


def dali_blocks(
    files: EncodedFiles,
    preprocess: Preprocess,
    start: int,
    pool: ThreadPoolExecutor,
    threads: int,
    device: int | None,
    tell: Tell,
) -> Iterator[DecodedBlock]:
    feeder = _Feeder(files, preprocess, start, pool, reduce=device is None)

    def build() -> Any:
        return dali.decode_pipeline(feeder, preprocess, BLOCK_FILES, threads, device)

    pipeline = build()
    while True:
        try:
            (rows,) = pipeline.run()
        except StopIteration:
            return
        except RuntimeError as error:
            # A file that looks right but isn't; the pipeline is of no more use.
            if not feeder.pending:
                raise
            batch = feeder.pending.popleft()
            decoded = _one_by_one(files, preprocess, batch, device, feeder.refused)
            tell(
                f"DALI gave up on {len(batch.plain)} files from {files.names[batch.first]!r} on; "
                f"they were decoded one by one ({_reason(error)})"
            )
            feeder.start_again()
            del pipeline
            pipeline = build()
        else:
            batch = feeder.pending.popleft()
            decoded = _noted(list(rows.as_array()), batch, preprocess) if batch.plain else []
        yield _merge(files, preprocess, batch, decoded)


def _one_by_one(
    files: EncodedFiles,
    preprocess: Preprocess,
    batch: _Batch,
    device: int | None,
    refused: set[str],
) -> list[Result]:
    """DALI once more, with each file alone; Pillow judges those that it can't decode.

    So what becomes of a file never depends on its neighbours. The names of Pillow's are added to
    ``refused``: read again in the next epoch, they cost their neighbours no second look.
    """
    rows: list[np.ndarray | None] = []
    while len(rows) < len(batch.plain):
        places = iter(range(len(rows), len(batch.plain)))

        def alone() -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
            place = next(places)  # noqa: B023  (of this pipeline, which ends before the next)
            return _for_dali(batch.data[place : place + 1], batch.squares[place : place + 1])

        pipeline = dali.decode_pipeline(alone, preprocess, 1, 1, device, prefetch=1)
        try:
            while len(rows) < len(batch.plain):
                (decoded,) = pipeline.run()
                rows.append(decoded.as_array()[0].copy())
        except RuntimeError:
            rows.append(None)
    results = _noted(rows, batch, preprocess)
    for place, row in enumerate(rows):
        if row is None:
            item, data = batch.plain[place], batch.data[place]
            refused.add(files.names[item])
            results[place] = attempt(files, preprocess, item, data)
    return results


def _for_dali(
    data: Sequence[bytes], squares: Sequence[tuple[int, int, int, int]]
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Files and squares as ``dali.decode_pipeline`` takes them."""
    numbers = np.array(squares, np.int32)
    return (
        [np.frombuffer(one, np.uint8) for one in data],
        np.ascontiguousarray(numbers[:, :2]),
        np.ascontiguousarray(numbers[:, 2:]),
    )


def _reason(error: RuntimeError) -> str:
    """What DALI says happened, out of a page of where it did."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [
        "no reason given"
    ]
    return lines[lines.index("encountered:") + 1] if "encountered:" in lines[:-1] else lines[0]


def _noted(rows: list[np.ndarray], batch: _Batch, preprocess: Preprocess) -> list[Result]:
    return [
        Result(row, (notes.SMALL,) if side < preprocess.size else ())
        for row, (_, _, side, _) in zip(rows, batch.squares, strict=True)
    ]


def _merge(
    files: EncodedFiles,
    preprocess: Preprocess,
    batch: _Batch,
    decoded: list[Result],
) -> DecodedBlock:
    """The block of a batch: what DALI decoded and what went to the pool, in order."""
    results = [Result("")] * batch.items
    for item, result in zip(batch.plain, decoded, strict=True):
        results[item - batch.first] = result
    for item, future in batch.others.items():
        results[item - batch.first] = future.result()
    return block_of(files, preprocess, batch.first, results)
