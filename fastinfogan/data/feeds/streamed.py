"""The feeds that read ahead: batches of rows that a thread of their own has ready."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import torch
from torch import Tensor

from fastinfogan.data.feeds.feed import Batches
from fastinfogan.kernels.gather import gather
from fastinfogan.tell import Tell, on_stderr

AHEAD = 4  # batches made before they are asked for
WATCHED = 200  # batches between two looks at how long the training had to wait
WAITING_ALLOWED = 0.02  # of the time


class Rows(Protocol):
    """Where a feed's batches come from.

    Attributes:
        shape: (H, W, C) of a row.
        summary: one phrase for the user.
        remedy: what helps where training has to wait for them.
    """

    shape: tuple[int, int, int]
    summary: str
    remedy: str

    def read(self, iteration: int, rows: Tensor) -> None:
        """Fill in the rows of an iteration's batch, or of a rank's slice of it.

        Args:
            iteration: from 0. Each call is for the iteration after the last one's, except after a
                feed's ``seek``.
            rows: uint8 (B, H, W, C) on the host.
        """

    def close(self) -> None:
        """End what reads ahead; nothing is read any more."""


class StreamedFeed:
    """Batches that a thread reads ahead; see ``feed.Feed``.

    On a GPU it also copies them there, from pinned memory on a stream of its own. ``prepare`` puts
    the next ones where ``next`` always reads: what a CUDA graph needs.

    Args:
        rows: where they come from.
        batches: what is asked for.
        tell: gets a line, once, if training has to wait for images.
    """

    def __init__(self, rows: Rows, batches: Batches, tell: Tell = on_stderr) -> None:
        self._source, self._batches, self.device = rows, batches, batches.device
        self.summary = rows.summary
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._pending: deque[Future[Tensor]] = deque()
        self._iteration = 0  # of the batch that is submitted next
        first, last = batches.slice
        self._shape = (last - first, *rows.shape)
        self._rows = torch.empty(self._shape, dtype=torch.uint8, device=self.device)
        self._all = torch.arange(len(self._rows), device=self.device)
        if self.device.type == "cuda":
            self._stream = torch.cuda.Stream(self.device)
            self._pinned = torch.empty(self._shape, dtype=torch.uint8, pin_memory=True)
            # Earlier batches, and when they were taken. Kept here, their memory needs no
            # record_stream, which may never give it back: see ``engine/graph.py``.
            self._taken: deque[tuple[torch.cuda.Event, Tensor]] = deque()
        self._prepared, self._waited, self._since = 0, 0.0, time.monotonic()
        self.tell, self._told = tell, False

    def seek(self, iteration: int) -> None:
        """See ``feed.Feed``."""
        for future in self._pending:
            future.cancel()
        self._pending.clear()
        self._iteration = iteration

    def begin(self) -> None:
        """See ``feed.Feed``."""
        self._read_ahead()
        self._pending[0].result()

    def prepare(self) -> None:
        """Take the rows of the next batch; waits if they aren't ready yet."""
        if self.device.type == "cuda" and len(self._taken) == AHEAD:
            taken, _ = self._taken[0]
            taken.synchronize()  # else the host would run ahead of the GPU
            self._taken.popleft()
        self._read_ahead()
        began = time.monotonic()
        rows = self._pending.popleft().result()
        self._watch(time.monotonic() - began)
        self._rows.copy_(rows)
        if self.device.type == "cuda":
            self._taken.append((torch.cuda.current_stream(self.device).record_event(), rows))

    def counted_by(self, counter: Tensor) -> int:
        """See ``feed.Feed``: the host counts."""
        return 0

    def next(self) -> Tensor:
        """See ``feed.Feed``: the rows that ``prepare`` has taken."""
        return gather(
            self._rows,
            self._all,
            output_range=self._batches.output_range,
            dtype=self._batches.dtype,
        )

    def close(self) -> None:
        """See ``feed.Feed``."""
        self._worker.shutdown(cancel_futures=True)  # waits for the batch that is being made
        self._source.close()

    def _read_ahead(self) -> None:
        while len(self._pending) <= AHEAD:
            self._pending.append(self._worker.submit(self._make, self._iteration))
            self._iteration += 1

    def _make(self, iteration: int) -> Tensor:
        if self.device.type == "cpu":
            rows = torch.empty(self._shape, dtype=torch.uint8)
            self._source.read(iteration, rows)
            return rows
        self._source.read(iteration, self._pinned)
        with torch.cuda.stream(self._stream):
            rows = self._pinned.to(self.device, non_blocking=True)
        self._stream.synchronize()  # this thread alone; then the pinned rows may be overwritten
        return rows

    def _watch(self, waited: float) -> None:
        self._prepared, self._waited = self._prepared + 1, self._waited + waited
        if self._prepared % WATCHED:
            return
        now = time.monotonic()
        share, first = self._waited / (now - self._since), self._prepared == WATCHED
        # The first look takes in the start, when nothing was ready and files were not in memory.
        if share > WAITING_ALLOWED and not first and not self._told:
            self._told = True
            self.tell(
                f"images can't keep up: training waits for them {share:.0%} of the time; "
                f"{self._source.remedy}"
            )
        self._waited, self._since = 0.0, now
