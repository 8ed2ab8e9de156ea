"""How iterations are run: one by one, or recorded as CUDA graphs and replayed."""

from __future__ import annotations

from collections.abc import Callable

import torch

from fastinfogan.tell import Tell, on_stderr

WARMUP = 11  # iterations before recording: kernels compile and libraries choose their algorithms
LENGTHS = (10, 1)  # iterations in one graph; the short one fills up to the next log line


class Eager:
    """Runs iterations one by one.

    Args:
        iterate: one whole iteration on the device.
        prepare: what the host does before it, such as handing over images; None if nothing.
        tell: gets a line if iterations can't be run as they should.
    """

    def __init__(
        self,
        iterate: Callable[[], None],
        prepare: Callable[[], None] | None,
        tell: Tell = on_stderr,
    ) -> None:
        self._iterate, self._prepare, self.tell = iterate, prepare, tell

    def run(self, count: int) -> None:
        """Run ``count`` iterations."""
        for _ in range(count):
            if self._prepare is not None:
                self._prepare()
            self._iterate()


class Captured(Eager):
    """Runs the first iterations as they are, records the next as CUDA graphs, and replays those.

    Everything that an iteration changes (weights, moments, counters, sums of metrics) lives in
    tensors that it updates in place, so a replay is an iteration. Recording runs nothing. Warm-up
    and recording share a stream: autograd remembers where a gradient was first accumulated.

    If recording fails, the user is told why, and iterations run one by one, on one stream: before
    torch 2.13 the allocator believes from then on that a recording is under way, and never gives
    out again what one stream has made and another one used.

    Args:
        iterate, prepare, tell: as for ``Eager``.
        keep_to_one_stream: makes ``iterate`` use no stream but the current one.
    """

    def __init__(
        self,
        iterate: Callable[[], None],
        prepare: Callable[[], None] | None,
        tell: Tell = on_stderr,
        *,
        keep_to_one_stream: Callable[[], None],
    ) -> None:
        super().__init__(iterate, prepare, tell)
        self._keep_to_one_stream = keep_to_one_stream
        # Like the engine's second stream: what begins early may fill what these leave free.
        self._stream = torch.cuda.Stream(priority=-1)
        self._warm = 0
        self._graphs: dict[int, torch.cuda.CUDAGraph] | None = None

    def run(self, count: int) -> None:
        """Run ``count`` iterations."""
        first = min(count, WARMUP - self._warm)
        if first > 0:
            self._on_stream(lambda: super(Captured, self).run(first))
            self._warm += first
            count -= first
        if count > 0 and self._graphs is None:
            self._graphs = self._record()
        if not self._graphs:
            super().run(count)
            return
        for length, graph in self._graphs.items():
            while count >= length:
                if self._prepare is not None:
                    self._prepare()
                graph.replay()
                count -= length

    def _record(self) -> dict[int, torch.cuda.CUDAGraph]:
        """Graphs by the number of iterations in them; none if recording fails."""
        graphs: dict[int, torch.cuda.CUDAGraph] = {}
        pool = torch.cuda.graph_pool_handle()  # one: graphs never run beside each other
        # What the host hands over before an iteration can't happen in the middle of a graph.
        lengths = LENGTHS if self._prepare is None else (1,)
        torch.cuda.synchronize()
        current = torch.cuda.current_stream()
        try:
            for length in lengths:
                graph = torch.cuda.CUDAGraph()
                # thread_local: other threads (a streamed feed's) may call CUDA meanwhile.
                with torch.cuda.graph(
                    graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"
                ):
                    for _ in range(length):
                        self._iterate()
                graphs[length] = graph
        except RuntimeError as error:
            torch.cuda.set_stream(current)  # torch leaves the recording stream in place
            # Ending a broken recording raises once more; what broke it comes first.
            reason = str(error.__context__ or error).strip().partition("\n")[0]
            self.tell(f"no CUDA graphs, recording failed: {reason}")
            self._keep_to_one_stream()
            return {}
        return graphs

    def _on_stream(self, call: Callable[[], None]) -> None:
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            call()
        current.wait_stream(self._stream)
