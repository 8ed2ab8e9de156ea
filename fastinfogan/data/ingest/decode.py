"""Encoded files to blocks of rows, in order and in bounded memory, by DALI or by Pillow."""

from __future__ import annotations

import io
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np

from fastinfogan.cores import usable_cores
from fastinfogan.data.ingest import dali, notes, pillow
from fastinfogan.data.ingest.encoded import EncodedFiles
from fastinfogan.data.ingest.preprocess import Preprocess
from fastinfogan.data.ingest.source import DecodedBlock
from fastinfogan.tell import Tell, on_stderr

Decoder = Literal["dali-gpu", "dali", "pillow"]

# A block ends with whichever comes first. Pixels: 100 MB decoded, of which DALI holds a few.
BLOCK_FILES, BLOCK_PIXELS, BLOCK_BYTES = 256, 1 << 25, 1 << 26
FILES_PER_TASK = 64
JPEG_START = b"\xff\xd8"
TASKS_AHEAD = 16


class _Result(NamedTuple):
    """What became of a file.

    Attributes:
        row: the decoded file, or why it is of no use.
        notes: what ``notes`` has a word for.
    """

    row: np.ndarray | str
    notes: Sequence[str] = ()


def pick_decoder(tell: Tell) -> Decoder:
    """DALI on a GPU, DALI on the CPU or Pillow: the first that is there.

    Args:
        tell: gets a line if DALI is installed and doesn't work.
    """
    if not dali.available():
        return "pillow"
    if (reason := dali.broken()) is not None:
        tell(f"DALI is installed but does not import ({reason}); Pillow decodes")
        return "pillow"
    import torch

    return "dali-gpu" if torch.cuda.is_available() else "dali"


def decode_blocks(
    files: EncodedFiles,
    preprocess: Preprocess,
    start: int,
    decoder: Decoder,
    tell: Tell = on_stderr,
) -> Iterator[DecodedBlock]:
    """Decode every file from number ``start`` on, in the order of the files.

    Args:
        files: the encoded files.
        preprocess: what is made of each.
        start: number of the first one.
        decoder: what decodes them.
        tell: gets a line where DALI gives up and Pillow takes over.
    """
    with pillow.strict_sizes(), ThreadPoolExecutor(usable_cores()) as pool:
        try:
            if decoder == "pillow":
                yield from _pillow_blocks(files, preprocess, start, pool)
            else:
                device = 0 if decoder == "dali-gpu" else None
                yield from _dali_blocks(files, preprocess, start, pool, device, tell)
        finally:
            pool.shutdown(cancel_futures=True)  # on Ctrl-C, do not decode the rest first


# -- Pillow: every file is read and decoded by a thread of the pool ----------------------------


def _pillow_blocks(
    files: EncodedFiles, preprocess: Preprocess, start: int, pool: ThreadPoolExecutor
) -> Iterator[DecodedBlock]:
    def work(first: int) -> DecodedBlock:
        items = range(first, min(first + FILES_PER_TASK, len(files.names)))
        results = [_attempt(files, preprocess, item) for item in items]
        return _block(files, preprocess, items.start, results)

    tasks = (pool.submit(work, first) for first in range(start, len(files.names), FILES_PER_TASK))
    pending = deque(islice(tasks, TASKS_AHEAD))
    while pending:
        yield pending.popleft().result()
        pending.extend(islice(tasks, 1))


def _attempt(
    files: EncodedFiles, preprocess: Preprocess, item: int, data: bytes | None = None
) -> _Result:
    noted: list[str] = []
    try:
        data = files.read(item) if data is None else data
        row = pillow.decode(data, preprocess, noted.append, name=files.names[item])
        return _Result(row, noted)
    # Pillow meets damaged files with a dozen kinds of exception, archives with a few more; any
    # of them means that this one file is of no use.
    except Exception as error:
        return _Result(pillow.reason(error))


def _block(
    files: EncodedFiles, preprocess: Preprocess, first: int, results: list[_Result]
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


# -- DALI: this thread reads files ahead while DALI's threads decode; odd files go to the pool --


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
    others: dict[int, Future[_Result]] = field(default_factory=dict)


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
        self._replay: deque[_Batch] = deque()
        self._batches = self._read(files, preprocess, start, pool, reduce)
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
        squares = np.array(batch.squares or [(0, 0, 1, 1)], np.int32)
        return (
            [np.frombuffer(data, np.uint8) for data in batch.data or [self._nothing]],
            np.ascontiguousarray(squares[:, :2]),
            np.ascontiguousarray(squares[:, 2:]),
        )

    def start_again(self) -> None:
        """Feed the pending batches once more, to a new pipeline."""
        self._replay = deque(self.pending)

    @staticmethod
    def _read(
        files: EncodedFiles,
        preprocess: Preprocess,
        start: int,
        pool: ThreadPoolExecutor,
        reduce: bool,
    ) -> Iterator[_Batch]:
        from PIL import Image

        batch, pixels, size = _Batch(start), 0, 0
        for item in range(start, len(files.names)):
            try:
                data = files.read(item)
            except Exception as error:
                failed: Future[_Result] = Future()
                failed.set_result(_Result(pillow.reason(error)))
                batch.others[item] = failed
            else:
                shape = dali.plain_size(data)
                if (
                    shape is None
                    or shape[0] * shape[1] > (Image.MAX_IMAGE_PIXELS or 1 << 62)
                    or (reduce and data[:2] == JPEG_START and preprocess.reducible(*shape))
                ):
                    batch.others[item] = pool.submit(_attempt, files, preprocess, item, data)
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


def _dali_blocks(
    files: EncodedFiles,
    preprocess: Preprocess,
    start: int,
    pool: ThreadPoolExecutor,
    device: int | None,
    tell: Tell,
) -> Iterator[DecodedBlock]:
    feeder = _Feeder(files, preprocess, start, pool, reduce=device is None)

    def build() -> Any:
        return dali.decode_pipeline(feeder, preprocess, BLOCK_FILES, usable_cores(), device)

    pipeline = build()
    while True:
        try:
            (rows,) = pipeline.run()
        except StopIteration:
            return
        except RuntimeError as error:
            # A file that looks right but isn't; the pipeline is of no more use. Pillow finds it.
            if not feeder.pending:
                raise
            batch = feeder.pending.popleft()
            decoded = list(
                pool.map(
                    lambda pair: _attempt(files, preprocess, *pair),
                    zip(batch.plain, batch.data, strict=True),
                )
            )
            tell(
                f"DALI gave up on {len(batch.plain)} files from {files.names[batch.first]!r} on; "
                f"Pillow decoded them one by one ({_reason(error)})"
            )
            feeder.start_again()
            del pipeline
            pipeline = build()
        else:
            batch = feeder.pending.popleft()
            decoded = _noted(list(rows.as_array()), batch, preprocess) if batch.plain else []
        yield _merge(files, preprocess, batch, decoded)


def _reason(error: RuntimeError) -> str:
    """What DALI says happened, out of a page of where it did."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [
        "no reason given"
    ]
    return lines[lines.index("encountered:") + 1] if "encountered:" in lines[:-1] else lines[0]


def _noted(rows: list[np.ndarray], batch: _Batch, preprocess: Preprocess) -> list[_Result]:
    return [
        _Result(row, (notes.SMALL,) if side < preprocess.size else ())
        for row, (_, _, side, _) in zip(rows, batch.squares, strict=True)
    ]


def _merge(
    files: EncodedFiles,
    preprocess: Preprocess,
    batch: _Batch,
    decoded: list[_Result],
) -> DecodedBlock:
    """The block of a batch: what DALI decoded and what went to the pool, in order."""
    results = [_Result("")] * batch.items
    for item, result in zip(batch.plain, decoded, strict=True):
        results[item - batch.first] = result
    for item, future in batch.others.items():
        results[item - batch.first] = future.result()
    return _block(files, preprocess, batch.first, results)
