"""Running iterations: one by one, or as recorded graphs; the same number either way."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_engines import tiny

from fastinfogan.checkpoint import engine_state
from fastinfogan.data import ImageData
from fastinfogan.data.feed import Batches, ResidentFeed
from fastinfogan.graph import LENGTHS, WARMUP, Captured, Eager
from fastinfogan.metrics import Window
from fastinfogan.trainer import Draws, build_engine

gpu = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


class Counter:
    """Stands in for a GPU: iterations run are counted, recorded ones only when replayed."""

    def __init__(self, monkeypatch, fails=False):
        self.ran = self.loaded = self.replays = 0
        self.recording = None
        counter = self

        class Graph:
            length = 0

            def replay(self):
                counter.ran += self.length
                counter.replays += 1

        class Stream:
            def wait_stream(self, other):
                pass

        @contextmanager
        def record(graph, **options):
            if fails:
                raise RuntimeError("operation not permitted\nwhen stream is capturing")
            counter.recording = graph
            yield
            counter.recording = None

        for name, fake in {
            "Stream": Stream,
            "CUDAGraph": Graph,
            "graph": record,
            "graph_pool_handle": lambda: None,
            "synchronize": lambda: None,
            "current_stream": Stream,
            "stream": lambda stream: nullcontext(),
        }.items():
            monkeypatch.setattr(torch.cuda, name, fake)

    def iterate(self):
        if self.recording is None:
            self.ran += 1
        else:
            self.recording.length += 1

    def load(self):
        self.loaded += 1


# Fewer than the warm-up, the warm-up in two parts, and every mix of long and short graphs.
CHUNKS = [3, 20, 1, 10, 25, 20, 7]


def test_every_iteration_runs_once_whatever_the_chunks(monkeypatch):
    counter = Counter(monkeypatch)
    captured = Captured(counter.iterate, None)
    for done, chunk in zip(np.cumsum(CHUNKS), CHUNKS, strict=True):
        captured.run(chunk)
        assert counter.ran == done
    left = [sum(CHUNKS[:2]) - WARMUP, *CHUNKS[2:]]
    assert counter.replays == sum(n // LENGTHS[0] + n % LENGTHS[0] for n in left)
    assert captured.note == ""


def test_what_the_host_hands_over_comes_before_every_iteration(monkeypatch):
    """Then no graph holds more than one iteration."""
    counter = Counter(monkeypatch)
    captured = Captured(counter.iterate, counter.load)
    captured.run(WARMUP + 12)
    assert counter.ran == counter.loaded == WARMUP + 12
    assert counter.replays == 12


def test_failing_to_record_is_said_once_and_training_goes_on(monkeypatch):
    counter = Counter(monkeypatch, fails=True)
    captured = Captured(counter.iterate, None)
    captured.run(40)
    captured.run(2)
    assert counter.ran == 42
    assert counter.replays == 0
    assert captured.note == (
        "no CUDA graphs, recording failed: operation not permitted when stream is capturing"
    )


def test_eager_loads_before_it_iterates():
    events = []
    Eager(lambda: events.append("iterate"), lambda: events.append("load")).run(2)
    assert events == ["load", "iterate"] * 2


@gpu
@needs_gpu
@pytest.mark.usefixtures("narrow_presets")
@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
@pytest.mark.parametrize("amp_dtype", [None, "bfloat16", "float16"])
def test_captured_iterations_give_the_weights_of_uncaptured_ones(update, amp_dtype):
    """Bit for bit: the same kernels run on the same numbers."""
    device = torch.device("cuda")
    config = tiny("mnist", update=update, batch=16)
    run = replace(config.run, compile=False)
    if amp_dtype is not None:
        run = replace(run, amp=True, amp_dtype=amp_dtype)
    config = replace(config, run=run)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (100, 28, 28, 1), dtype=np.uint8)
    ends = []
    for kind in (Eager, Captured):
        engine = build_engine(config, device)
        batches = Batches(16, 0, (0.0, 1.0), device, engine.input_dtype)
        feed = ResidentFeed(ImageData("random", images, None, None), batches)
        draws, window = Draws(config, feed, engine.input_dtype), Window(config.spec, device)
        draws.seek(0)
        runner = kind(lambda: window.add(engine.step(draws.next())), None)  # noqa: B023
        runner.run(WARMUP + 2 * LENGTHS[0] + 3)
        assert runner.note == ""
        ends.append({**engine_state(engine), "window": window.sums.cpu()})
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
