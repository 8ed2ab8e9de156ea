"""Running iterations: one by one, or as recorded graphs; the same number either way."""

from __future__ import annotations

import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from engine_cases import CASES, batch_of, tiny
from safetensors.torch import load_file

from bench.runner import draws_of
from fastinfogan.config import ModelConfig, OptimConfig, RunConfig, TrainConfig, preset_config
from fastinfogan.data import ImageData
from fastinfogan.data.feeds.feed import Batches
from fastinfogan.data.feeds.mapped import MappedRows
from fastinfogan.data.feeds.resident import ResidentFeed
from fastinfogan.data.feeds.streamed import StreamedFeed
from fastinfogan.engine import flat
from fastinfogan.engine.build import build_engine
from fastinfogan.engine.draws import Draws, _tensors, fill_of
from fastinfogan.engine.graph import LENGTHS, WARMUP, Captured, Eager
from fastinfogan.plan import Plan, make_plan
from fastinfogan.training.checkpoint import engine_state
from fastinfogan.training.metrics import Window
from fastinfogan.training.trainer import train

gpu = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


class Counter:
    """Stands in for a GPU: iterations run are counted, recorded ones only when replayed."""

    def __init__(self, monkeypatch, fails=False):
        self.ran = self.replays = 0
        self.events = []  # what happened, in order
        self.stream = "current"
        self.recording = None
        counter = self

        class Graph:
            length = 0

            def replay(self):
                counter.ran += self.length
                counter.replays += 1
                counter.events.append("iterate")

        class Stream:
            def __init__(self, device=None, priority=0):
                pass

            def wait_stream(self, other):
                pass

        @contextmanager
        def record(graph, **options):
            counter.recording, counter.stream = graph, "recording"
            try:
                yield
            except RuntimeError as error:  # as torch does, which leaves its stream in place
                counter.recording = None
                raise RuntimeError("failed due to a previous error during capture") from error
            counter.recording, counter.stream = None, "current"

        for name, fake in {
            "Stream": Stream,
            "CUDAGraph": Graph,
            "graph": record,
            "graph_pool_handle": lambda: None,
            "synchronize": lambda: None,
            "current_stream": Stream,
            "stream": lambda stream: nullcontext(),
            "set_stream": lambda stream: setattr(counter, "stream", "current"),
        }.items():
            monkeypatch.setattr(torch.cuda, name, fake)
        self.fails = fails

    def iterate(self):
        if self.recording is None:
            self.ran += 1
            self.events.append("iterate")
        elif self.fails:
            raise RuntimeError("operation not permitted\nwhen stream is capturing")
        else:
            self.recording.length += 1

    def prepare(self):
        self.events.append("prepare")

    def alone(self):
        self.events.append("alone")


# Fewer than the warm-up, the warm-up in two parts, and every mix of long and short graphs.
CHUNKS = [3, 20, 1, 10, 25, 20, 7]


def test_every_iteration_runs_once_whatever_the_chunks(monkeypatch):
    counter, told = Counter(monkeypatch), []
    captured = Captured(counter.iterate, None, told.append, keep_to_one_stream=counter.alone)
    for done, chunk in zip(np.cumsum(CHUNKS), CHUNKS, strict=True):
        captured.run(chunk)
        assert counter.ran == done
    left = [sum(CHUNKS[:2]) - WARMUP, *CHUNKS[2:]]
    assert counter.replays == sum(n // LENGTHS[0] + n % LENGTHS[0] for n in left)
    assert told == []
    assert "alone" not in counter.events


def test_what_the_host_hands_over_comes_before_every_iteration(monkeypatch):
    """Then no graph holds more than one iteration."""
    counter = Counter(monkeypatch)
    captured = Captured(counter.iterate, counter.prepare, keep_to_one_stream=counter.alone)
    captured.run(WARMUP + 12)
    assert counter.events == ["prepare", "iterate"] * (WARMUP + 12)
    assert counter.ran == WARMUP + 12
    assert counter.replays == 12


def test_failing_to_record_says_why_and_training_goes_on(monkeypatch):
    """Torch raises a second, less telling error, and leaves its own stream current."""
    counter, told = Counter(monkeypatch, fails=True), []
    captured = Captured(counter.iterate, None, told.append, keep_to_one_stream=counter.alone)
    captured.run(40)
    captured.run(2)
    # After it nothing may run beside something else: torch would keep such memory for good.
    assert counter.events == [*["iterate"] * WARMUP, "alone", *["iterate"] * (42 - WARMUP)]
    assert counter.ran == 42
    assert counter.replays == 0
    assert counter.stream == "current"
    assert told == ["no CUDA graphs, recording failed: operation not permitted"]


@pytest.mark.usefixtures("narrow_presets")
@pytest.mark.parametrize(("consistency", "calls"), [(0.0, 1), (0.7, 2)])
def test_an_engine_keeps_to_one_stream_when_told_to(monkeypatch, consistency, calls):
    """Before, G makes the images for its own update on another one, and D looks at copies there."""
    Counter(monkeypatch)
    config = tiny("mnist", batch=4, consistency=consistency)
    engine = build_engine(config, make_plan(replace(config.run, device="cpu")))
    engine._side, beside = torch.cuda.Stream(), []
    monkeypatch.setattr(torch.cuda, "stream", lambda s: beside.append(s) or nullcontext())
    engine.step(batch_of(config, 0, torch.float32))
    assert beside == [engine._side] * calls
    engine.keep_to_one_stream()
    engine.step(batch_of(config, 1, torch.float32))
    assert len(beside) == calls


@pytest.mark.usefixtures("narrow_presets")
@pytest.mark.parametrize("case", ["mnist", "gan", "both", "simultaneous-both"])
def test_nothing_that_an_iteration_leaves_keeps_its_graph_alive(case):
    """In a living graph the weights' gradients are accumulated on the stream of its making."""
    config = CASES[case]
    engine = build_engine(config, make_plan(replace(config.run, device="cpu")))
    losses = engine.step(batch_of(config, 0, torch.float32))
    weights = (*engine.adam_d.trained, *engine.adam_g.trained)
    left = [*losses, *(weight.grad for weight in weights)]
    assert not [t for t in left if t is not None and t.requires_grad]


@pytest.mark.usefixtures("narrow_presets")
@pytest.mark.parametrize("case", ["mnist", "simultaneous", "both"])
def test_what_is_drawn_ahead_is_what_would_be_drawn(case):
    """The same batches in the same order, always in the same memory, and after going elsewhere."""
    config = CASES[case]
    plain, ahead = (draws_of(config, torch.device("cpu"), torch.float32) for _ in range(2))
    memory = set()
    for start in (0, 7):
        for draws in (plain, ahead):
            draws.seek(start)
        for _ in range(4):
            expected, got = plain.next(), ahead.next()
            tensors = _tensors(expected), _tensors(got)
            assert all(torch.equal(a, b) for a, b in zip(*tensors, strict=True))
            ahead.draw_ahead()
            memory.add(tuple(t.data_ptr() for t in _tensors(ahead.next())))
    assert len(memory) == 1


@pytest.mark.usefixtures("narrow_presets")
@pytest.mark.parametrize("case", ["mnist", "simultaneous"])
def test_an_engine_draws_ahead_once_a_batch_is_consumed(case):
    """After all that reads it, and within the iteration."""
    config = CASES[case]
    engine = build_engine(config, make_plan(replace(config.run, device="cpu")))
    batch, seen = batch_of(config, 0, torch.float32), []

    def meanwhile():
        seen.append(all(weight.grad is not None for weight in engine.adam_g.trained))
        for tensor in _tensors(batch):
            tensor.fill_(float("nan"))

    engine.meanwhile = meanwhile
    losses = engine.step(batch)
    assert seen == [True]
    assert all(loss is None or loss.isfinite().all() for loss in losses)
    weights = (*engine.discriminator.parameters(), *engine.generator.parameters())
    assert all(weight.isfinite().all() for weight in weights)


def test_drawing_ahead_takes_a_gpu_images_that_are_there_and_the_fast_engine():
    class Feed(NamedTuple):
        prepare: Any = None
        device: torch.device = torch.device("meta")

        def counted_by(self, counter):
            return 0

    config = preset_config("mnist")
    plan = Plan(torch.device("meta"))
    reference = build_engine(replace(config, run=replace(config.run, engine="reference")), plan)
    for feed, engine, goes in (
        (Feed(), build_engine(config, plan), True),
        (Feed(device=torch.device("cpu")), build_engine(config, plan), False),
        (Feed(prepare=print), build_engine(config, plan), False),
        (Feed(), reference, False),
    ):
        Draws(config, feed, torch.float32).beside(engine)
        assert (getattr(engine, "meanwhile", None) is not None) == goes


def test_eager_prepares_before_it_iterates():
    events = []
    Eager(lambda: events.append("iterate"), lambda: events.append("prepare")).run(2)
    assert events == ["prepare", "iterate"] * 2


def run_on_gpu(kind, config, streamed, stops, one_stream=False):
    """State and metrics after ``sum(stops)`` iterations in chunks of these lengths."""
    plan, told = make_plan(replace(config.run, device="cuda:0")), []
    engine = build_engine(config, plan)
    if one_stream:
        engine.keep_to_one_stream()
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (100, *config.architecture.image_shape[1:], 1), dtype=np.uint8)
    batches = Batches(16, 0, (0.0, 1.0), plan.device, plan.input_dtype)
    data = ImageData("random", images, None, None)
    feed = ResidentFeed(data, batches)
    if streamed:
        feed = StreamedFeed(MappedRows(data, batches), batches)
    draws = Draws(config, feed, plan.input_dtype, fill_of(data, (0.0, 1.0), plan.device))
    if not one_stream:
        draws.beside(engine)
    window = Window(config.spec, plan.device, config.optim.extra_losses)
    window.beside(engine)
    draws.seek(0)
    if kind is Captured:
        kind = partial(Captured, keep_to_one_stream=engine.keep_to_one_stream)
    runner = kind(lambda: window.add(engine.step(draws.next())), feed.prepare, told.append)
    for stop in stops:
        runner.run(stop)
    assert told == []
    return {**engine_state(engine), "window": window.sums.cpu()}


OPTIM = ("update", "objective", "consistency", "augment", "contrastive", "gap_until")


def on_gpu(**run):
    optim = {name: run.pop(name) for name in list(run) if name in OPTIM}
    config = tiny("mnist", batch=16, **optim)
    return replace(config, run=replace(config.run, **run))


GPU_CASES = {
    "float32": on_gpu(compile=False),
    "compiled": on_gpu(compile=True),
    "simultaneous": on_gpu(compile=False, update="simultaneous"),
    "simultaneous-compiled": on_gpu(compile=True, update="simultaneous"),
    "gan": on_gpu(compile=False, objective="gan"),
    "bfloat16": on_gpu(compile=False, amp=True, amp_dtype="bfloat16"),
    "bfloat16-compiled": on_gpu(compile=True, amp=True, amp_dtype="bfloat16"),
    "float16": on_gpu(compile=False, amp=True, amp_dtype="float16"),
    "float16-simultaneous": on_gpu(
        compile=False, amp=True, amp_dtype="float16", update="simultaneous"
    ),
    "copies": on_gpu(compile=False, amp=True, amp_dtype="bfloat16", consistency=0.7, augment=True),
    "pairs": on_gpu(compile=False, contrastive=0.6, gap_until=20),
    "pairs-compiled": on_gpu(compile=True, contrastive=0.6, gap_until=20),
    "copies-compiled": on_gpu(
        compile=True, amp=True, amp_dtype="bfloat16", consistency=0.7, augment=True
    ),
}


@gpu
@needs_gpu
@pytest.mark.usefixtures("narrow_presets")
@pytest.mark.parametrize("streamed", [False, True], ids=["resident", "streamed"])
@pytest.mark.parametrize("case", GPU_CASES)
def test_captured_iterations_give_the_weights_of_uncaptured_ones(case, streamed, monkeypatch):
    """Bit for bit: the same kernels run on the same numbers."""
    monkeypatch.setattr(flat, "WORTHWHILE", 1)
    stops = [WARMUP, 2 * LENGTHS[0] + 3]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*AccumulateGrad node's stream")
        eager, captured = (
            run_on_gpu(kind, GPU_CASES[case], streamed, stops) for kind in (Eager, Captured)
        )
    assert all(torch.equal(eager[name], captured[name]) for name in eager)


@gpu
@needs_gpu
@pytest.mark.usefixtures("narrow_presets")
@pytest.mark.parametrize("case", ["bfloat16", "copies"])
def test_what_runs_beside_something_else_changes_no_bit(case, monkeypatch):
    monkeypatch.setattr(flat, "WORTHWHILE", 1)
    alone, beside = (
        run_on_gpu(Eager, GPU_CASES[case], False, [WARMUP], one_stream)
        for one_stream in (True, False)
    )
    assert all(torch.equal(alone[name], beside[name]) for name in alone)


@gpu
@needs_gpu
@pytest.mark.usefixtures("narrow_presets")
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("amp", [False, True])
def test_a_run_continues_bit_for_bit_under_capture(tmp_path, amp, compile):
    """Through train and --resume."""

    def config(out, iterations):
        return TrainConfig(
            model=ModelConfig("narrow-mnist"),
            optim=OptimConfig(iterations=iterations, batch_size=16),
            run=RunConfig(
                out=tmp_path / out,
                device="cuda",
                sample_every=0,
                log_every=20,
                amp=amp,
                compile=compile,
            ),
        )

    whole = train(config("whole", 60))
    train(config("parts", 25))
    parts = train(config("parts", 60), resume=tmp_path / "parts")
    a, b = (load_file(run.folder / "generator.safetensors") for run in (whole, parts))
    assert all(torch.equal(a[name], b[name]) for name in a)
