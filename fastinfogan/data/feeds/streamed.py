"""The streamed feed: batches read ahead from the ingested file, for more images than fit."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from fastinfogan.data.feeds.feed import Batches
from fastinfogan.data.images import ImageData
from fastinfogan.kernels.gather import gather, order
from fastinfogan.sizes import in_bytes
from fastinfogan.tell import Tell, on_stderr

AHEAD = 4  # batches made before they are asked for
WATCHED = 200  # batches between two looks at how long the training had to wait
WAITING_ALLOWED = 0.02  # of the time


class StreamedFeed:
    """Batches of the same images in the same order as ``ResidentFeed``'s; see ``feed.Feed``.

    The rows lie decoded in a file mapped into memory. One thread gathers those of the next
    batches and, on a GPU, copies them from pinned memory on a stream of its own. ``prepare`` puts
    the next ones where ``next`` always reads: what a CUDA graph needs. (DALI decodes when a
    dataset is ingested; there is nothing left to decode here.)

    Args:
        data: the images.
        batches: what is asked for.
        tell: gets a line, once, if training has to wait for images.
    """

    def __init__(self, data: ImageData, batches: Batches, tell: Tell = on_stderr) -> None:
        self._images, self._count = torch.from_numpy(data.images), len(data)
        self._batches, self.device = batches, batches.device
        self._seed = torch.tensor([batches.seed])
        self.summary = f"images streamed ({in_bytes(data.images.nbytes)})"
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._pending: deque[Future[Tensor]] = deque()
        self._iteration = 0  # of the batch that is submitted next
        first, last = batches.slice
        shape = (last - first, *self._images.shape[1:])
        self._rows = torch.empty(shape, dtype=torch.uint8, device=self.device)
        self._all = torch.arange(len(self._rows), device=self.device)
        if self.device.type == "cuda":
            self._stream = torch.cuda.Stream(self.device)
            self._pinned = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
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

    def prepare(self) -> None:
        """Take the rows of the next batch; waits if they aren't ready yet."""
        if self.device.type == "cuda" and len(self._taken) == AHEAD:
            taken, _ = self._taken[0]
            taken.synchronize()  # else the host would run ahead of the GPU
            self._taken.popleft()
        while len(self._pending) <= AHEAD:
            self._pending.append(self._worker.submit(self._make, self._iteration))
            self._iteration += 1
        began = time.monotonic()
        rows = self._pending.popleft().result()
        self._watch(time.monotonic() - began)
        self._rows.copy_(rows)
        if self.device.type == "cuda":
            self._taken.append((torch.cuda.current_stream(self.device).record_event(), rows))

    def next(self) -> Tensor:
        """See ``feed.Feed``: the rows that ``prepare`` has taken."""
        return gather(
            self._rows,
            self._all,
            output_range=self._batches.output_range,
            dtype=self._batches.dtype,
        )

    def _make(self, iteration: int) -> Tensor:
        first, last = (iteration * self._batches.size + edge for edge in self._batches.slice)
        indices = order(torch.arange(first, last), self._count, self._seed)
        if self.device.type == "cpu":
            return self._images[indices]
        torch.index_select(self._images, 0, indices, out=self._pinned)
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
                f"reading images can't keep up: training waits for them {share:.0%} of the time; "
                "--resident yes keeps them on the device"
            )
        self._waited, self._since = 0.0, now
