"""The streamed feed: batches read ahead from the ingested file, for more images than fit."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from fastinfogan.data.base import ImageData
from fastinfogan.data.feed import Order
from fastinfogan.kernels.gather import to_float

AHEAD = 4  # batches made before they are asked for
WATCHED = 200  # batches between two looks at how long the training had to wait
WAITING_ALLOWED = 0.02  # of the time


class StreamedFeed:
    """Batches of the same images in the same order as ``ResidentFeed``'s; see ``feed.Feed``.

    The rows lie decoded in a file mapped into memory. One thread gathers those of the next
    batches and, on a GPU, copies them from pinned memory on a stream of its own. (DALI decodes
    when a dataset is ingested; there is nothing left to decode here.)
    """

    def __init__(
        self,
        data: ImageData,
        batch_size: int,
        seed: int,
        output_range: tuple[float, float],
        device: torch.device,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self._images = torch.from_numpy(data.images)
        self._order = Order(len(data), batch_size, seed, torch.device("cpu"), rank, ranks)
        self._output_range, self._device = output_range, device
        self.summary = f"images streamed ({data.images.nbytes / 1e6:,.0f} MB)"
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._pending: deque[tuple[int, Future[Tensor]]] = deque()
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)
            shape = (self._order.size, *self._images.shape[1:])
            self._pinned = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        self._batches, self._waited, self._since = 0, 0.0, time.monotonic()
        self._note: str | None = None

    def batch(self, iteration: int) -> Tensor:
        """See ``feed.Feed``; waits if the batch isn't ready yet."""
        if not self._pending or self._pending[0][0] != iteration:  # a jump: begin there
            for _, future in self._pending:
                future.cancel()
            self._pending.clear()
            self._submit(iteration)
        while len(self._pending) <= AHEAD:
            self._submit(self._pending[-1][0] + 1)
        began = time.monotonic()
        result = self._pending.popleft()[1].result()
        self._watch(time.monotonic() - began)
        if self._device.type == "cuda":
            result.record_stream(torch.cuda.current_stream(self._device))
        return result

    def note(self) -> str | None:
        """That the training waits for images, the first time it does."""
        note, self._note = self._note, None
        return note

    def _submit(self, iteration: int) -> None:
        self._pending.append((iteration, self._worker.submit(self._make, iteration)))

    def _make(self, iteration: int) -> Tensor:
        indices = self._order.indices(iteration)
        if self._device.type == "cpu":
            return to_float(self._images[indices], self._output_range)
        torch.index_select(self._images, 0, indices, out=self._pinned)
        with torch.cuda.stream(self._stream):
            rows = self._pinned.to(self._device, non_blocking=True)
            result = to_float(rows, self._output_range)
        self._stream.synchronize()  # this thread alone; then the pinned rows may be overwritten
        return result

    def _watch(self, waited: float) -> None:
        self._batches, self._waited = self._batches + 1, self._waited + waited
        if self._batches % WATCHED:
            return
        now = time.monotonic()
        share, first = self._waited / (now - self._since), self._batches == WATCHED
        # The first look takes in the start, when nothing was ready and files were not in memory.
        if share > WAITING_ALLOWED and not first:
            self._note = (
                f"reading images can't keep up: training waits for them {share:.0%} of the time; "
                "--resident yes keeps them on the device"
            )
        self._waited, self._since = 0.0, now
