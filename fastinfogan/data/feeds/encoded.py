"""Rows of image files that are decoded while training: for more images than a disk would hold."""

from __future__ import annotations

import functools
from collections.abc import Generator

import numpy as np
import torch
from torch import Tensor

from fastinfogan.cores import usable_cores
from fastinfogan.data.feeds.feed import Batches
from fastinfogan.data.images import ImageData
from fastinfogan.data.ingest.bad_files import NAME_SHOWN, too_many
from fastinfogan.data.ingest.decode import decode_blocks
from fastinfogan.data.ingest.encoded import EncodedFiles
from fastinfogan.data.ingest.result import attempt
from fastinfogan.data.ingest.source import DecodedBlock
from fastinfogan.errors import UserError
from fastinfogan.kernels.gather import order
from fastinfogan.printable import printable
from fastinfogan.tell import Tell, on_stderr

ENDLESS = 1 << 62  # more images than any run consumes
AT_A_TIME = 4096  # positions whose images are looked up together
NAMED = 5  # files that can't be decoded and are named; further ones are only counted


class EncodedRows:
    """See ``streamed.Rows``: what ``MappedRows`` gives, decoded as ``ingest`` does it.

    The data's decoder decodes, some batches ahead. The row of a file depends
    on that file alone: a run may be sought to any iteration, or shared out among ranks, and reads
    the same bits. In the place of a file that can't be decoded comes the next one, by number, that
    can.

    Args:
        data: with ``encoded``.
        batches: what is asked for.
        allow_bad: go on however many files can't be decoded; otherwise more than
            ``ingest.bad_files`` allows are an error.
        tell: gets a line for a file that can't be decoded.
    """

    remedy = "--feed streamed decodes them once, to a disk with room for them"

    def __init__(
        self, data: ImageData, batches: Batches, allow_bad: bool = False, tell: Tell = on_stderr
    ) -> None:
        self._files, self._preprocess, self._decoder, _ = data.encoded
        self._tell, self._allow_bad = tell, allow_bad
        self._order = InOrder(self._files, batches)
        # Ranks on one machine share its cores; each has a GPU of its own.
        self._threads = max(1, usable_cores() // batches.neighbours)
        self._gpu = batches.device.index or 0
        self.shape = self._preprocess.shape
        self.summary = f"images decoded while training ({self._decoder})"
        self._bad: set[str] = set()  # names of files that can't be decoded
        self._at = -1  # the iteration that is read next, if it is the next one
        self._item = 0  # number, in the order of the run, of the next block's first image
        self._blocks = self._from_now_on()
        self._left = np.empty((0, *self.shape), np.uint8)

    def read(self, iteration: int, rows: Tensor) -> None:
        """See ``streamed.Rows``."""
        if iteration != self._at:
            self.close()
            self._left, self._item = self._left[:0], iteration * len(rows)
            self._blocks = self._from_now_on()
        self._at = iteration + 1
        filled = 0
        while filled < len(rows):
            if not len(self._left):
                self._left = self._whole(next(self._blocks))
            some = self._left[: len(rows) - filled]
            rows[filled : filled + len(some)] = torch.from_numpy(some)
            self._left = self._left[len(some) :]
            filled += len(some)

    def close(self) -> None:
        """See ``streamed.Rows``."""
        self._blocks.close()

    def _from_now_on(self) -> Generator[DecodedBlock]:
        return decode_blocks(
            self._order, self._preprocess, self._item, self._decoder, self._tell, self._threads,
            self._gpu,
        )  # fmt: skip

    def _whole(self, block: DecodedBlock) -> np.ndarray:
        """The rows of a block, with others where some couldn't be decoded."""
        first, self._item = self._item, self._item + block.items
        if not block.bad:
            return block.rows
        places = [item - first for item, _, _ in block.bad]
        rows = np.empty((block.items, *self.shape), np.uint8)
        rows[np.delete(np.arange(block.items), places)] = block.rows
        for place, (item, name, reason) in zip(places, block.bad, strict=True):
            rows[place] = self._instead(self._order.index(item), name, reason)
        return rows

    def _instead(self, index: int, name: str, reason: str) -> np.ndarray:
        """The row of the next file that can be decoded."""
        count, unnamed = len(self._files.names), []
        for other in range(index + 1, index + count):
            if self._is_new(name, reason):
                unnamed.append((name, reason))
            name = self._files.names[other % count]
            row = attempt(self._files, self._preprocess, other % count).row
            if not isinstance(row, str):
                self._name(unnamed, name)
                return row
            reason = row
        raise UserError(f"--feed encoded: none of the {count:,} files can be decoded")

    def _is_new(self, name: str, reason: str) -> bool:
        """Count a file that can't be decoded, unless it is counted already."""
        if name in self._bad:
            return False
        self._bad.add(name)
        found, count = len(self._bad), len(self._files.names)
        if not self._allow_bad and too_many(found, count):
            raise UserError(
                f"--feed encoded: {found:,} of {count:,} files can't be decoded, the last one "
                f"{printable(name, NAME_SHOWN)!r} ({reason}); repair or remove them, or go on with "
                "--allow-bad"
            )
        if found % 1000 == 0:
            self._tell(f"{found:,} of {count:,} files can't be decoded")
        return True

    def _name(self, bad: list[tuple[str, str]], other: str) -> None:
        """Say which files can't be decoded, if they are among the first, and what is read."""
        before, other = len(self._bad) - len(bad), printable(other, NAME_SHOWN)
        for found, (name, reason) in enumerate(bad[: max(0, NAMED - before)], before + 1):
            name = printable(name, NAME_SHOWN)
            more = "; further ones are counted" if found == NAMED else ""
            self._tell(f"{name!r} can't be decoded ({reason}); {other!r} takes its place{more}")


class InOrder:
    """Files in the order in which a run, or one of its ranks, consumes them: without an end.

    It is read like ``EncodedFiles``, by the number of the image in that order.

    Args:
        files: all of them.
        batches: what is asked for.
    """

    def __init__(self, files: EncodedFiles, batches: Batches) -> None:
        self._files, self._batches = files, batches
        self._seed = torch.tensor([batches.seed])
        self.names = _Names(self)
        self._indices = functools.lru_cache(maxsize=8)(self._look_up)

    def index(self, number: int) -> int:
        """Which file it is."""
        chunk, place = divmod(number, AT_A_TIME)
        return self._indices(chunk)[place]

    def name(self, number: int) -> str:
        """What the file is called."""
        return self._files.names[self.index(number)]

    def read(self, number: int) -> bytes:
        """See ``EncodedFiles``."""
        return self._files.read(self.index(number))

    def _look_up(self, chunk: int) -> list[int]:
        first, last = self._batches.slice
        numbers = torch.arange(chunk * AT_A_TIME, (chunk + 1) * AT_A_TIME)
        iteration, place = numbers // (last - first), numbers % (last - first)
        positions = iteration * self._batches.size + first + place
        return order(positions, len(self._files.names), self._seed).tolist()


class _Names:
    """Names in that order, as a sequence."""

    def __init__(self, files: InOrder) -> None:
        self._files = files

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, number: int) -> str:
        return self._files.name(number)
