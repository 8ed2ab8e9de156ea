"""Feeds: the two kinds give the same batches, ranks share them out, and waiting is noticed."""

import threading
import weakref
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fastinfogan.config import DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig
from fastinfogan.data import ImageData
from fastinfogan.data.feeds import streamed
from fastinfogan.data.feeds.feed import Batches
from fastinfogan.data.feeds.mapped import MappedRows
from fastinfogan.data.feeds.open_feed import open_feed
from fastinfogan.data.feeds.resident import ResidentFeed
from fastinfogan.data.feeds.streamed import StreamedFeed
from fastinfogan.device import free_memory
from fastinfogan.errors import UserError
from fastinfogan.training.trainer import train

CPU = torch.device("cpu")
RANGE = (-1.0, 1.0)


@pytest.fixture(scope="module")
def data() -> ImageData:
    """37 images, so that batches of 8 straddle epochs, each recognisable by its first pixel."""
    images = np.random.default_rng(0).integers(0, 256, (37, 6, 5, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(37)
    return ImageData("random", images, None, None)


def batches(rank=0, ranks=1, dtype=torch.float32):
    return Batches(8, 3, RANGE, CPU, dtype, rank, ranks)


def ahead(data, batches, tell=None):
    return StreamedFeed(MappedRows(data, batches), batches, tell)


def take(feed):
    """What one iteration does with a feed."""
    if feed.prepare is not None:
        feed.prepare()
    return feed.next()


def identities(batch: torch.Tensor) -> list[int]:
    return ((batch[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_kinds_give_the_same_bits_over_many_epochs(data, dtype):
    resident, streamed = (kind(data, batches(dtype=dtype)) for kind in (ResidentFeed, ahead))
    for feed in (resident, streamed):
        feed.seek(0)
    for _ in range(40):
        a, b = take(resident), take(streamed)
        assert torch.equal(a, b)
        assert a.dtype == b.dtype == dtype and a.shape == (8, 3, 6, 5)
        assert a.is_contiguous(memory_format=torch.channels_last)
        assert b.is_contiguous(memory_format=torch.channels_last)


def test_every_image_comes_once_an_epoch_in_another_order(data):
    resident = ResidentFeed(data, batches())
    resident.seek(0)
    seen = [i for _ in range(37) for i in identities(take(resident))]
    epochs = [seen[at : at + 37] for at in range(0, 8 * 37, 37)]
    assert all(sorted(epoch) == list(range(37)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 8


def test_who_counts_for_a_feed_moves_it(data):
    """As the draws of an iteration do, which have one launch for all counters."""
    alone, counted = ResidentFeed(data, batches()), ResidentFeed(data, batches())
    for feed in (alone, counted):
        feed.seek(3)
    counter = torch.zeros(1, dtype=torch.int64)
    step = counted.counted_by(counter)
    wanted = [take(alone) for _ in range(3)]
    assert torch.equal(take(counted), wanted[0])
    assert torch.equal(take(counted), wanted[0])
    counter += 2 * step
    assert torch.equal(take(counted), wanted[2])
    counted.seek(4)
    assert torch.equal(take(counted), wanted[1])


@pytest.mark.parametrize("kind", [ResidentFeed, ahead])
def test_a_feed_may_be_sought_to_any_iteration(data, kind):
    straight, jumping = kind(data, batches()), kind(data, batches())
    straight.seek(0)
    wanted = [take(straight) for _ in range(20)]
    for iteration in (17, 3, 3, 19, 0):
        jumping.seek(iteration)
        assert torch.equal(take(jumping), wanted[iteration])
    assert torch.equal(take(jumping), wanted[1])


@pytest.mark.parametrize("kind", [ResidentFeed, ahead])
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_share_each_batch_without_overlap(data, kind, ranks):
    feeds = [kind(data, batches(rank, ranks)) for rank in range(ranks)]
    alone = kind(data, batches())
    for feed in (alone, *feeds):
        feed.seek(2)
    for _ in range(6):
        together = torch.cat([take(feed) for feed in feeds])
        assert torch.equal(together, take(alone))


def test_auto_keeps_what_fits_a_quarter_of_free_memory(data, monkeypatch):
    size = data.images.nbytes
    mapped = replace(data, checksum="0" * 64)

    def kind(images, feed, free):
        monkeypatch.setattr(f"{open_feed.__module__}.free_memory", lambda device: free)
        return type(open_feed(images, batches(), feed))

    assert kind(mapped, "auto", 4 * size) is ResidentFeed
    assert kind(mapped, "auto", 4 * size - 1) is StreamedFeed
    assert kind(data, "auto", 0) is ResidentFeed  # it is in memory as it is
    assert kind(data, "streamed", 100 * size) is StreamedFeed
    assert kind(mapped, "resident", size) is ResidentFeed
    refused = r"--feed resident: the images take .* --feed streamed works"
    with pytest.raises(UserError, match=refused):
        kind(mapped, "resident", size - 1)
    monkeypatch.undo()
    assert 1 << 20 < free_memory(CPU) < 1 << 50


def test_waiting_is_told_once_and_only_after_the_start(data, monkeypatch):
    """A clock under control: a batch takes 10 ms, of which the training waits a share."""
    now = [0.0]
    monkeypatch.setattr(streamed.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(streamed, "WATCHED", 10)

    told = []

    def run(feed, count, share):
        for _ in range(count):
            now[0] += 0.01
            feed._watch(0.01 * share)

    keeping_up = ahead(data, batches(), told.append)
    run(keeping_up, 10, 1.0)  # the start: nothing was ready
    run(keeping_up, 30, 0.01)
    assert told == []
    behind = ahead(data, batches(), told.append)
    run(behind, 20, 0.5)
    (line,) = told
    assert "50% of the time" in line and "--feed resident" in line and "\n" not in line
    run(behind, 20, 0.5)
    assert told == [line]


def test_batches_are_made_ahead_of_being_asked_for(data):
    made, enough = [], threading.Event()

    class Watched(StreamedFeed):
        def _make(self, iteration):
            made.append(iteration)
            if iteration == streamed.AHEAD:
                enough.set()
            return super()._make(iteration)

    Watched(MappedRows(data, batches()), batches()).prepare()
    assert enough.wait(10) and made == list(range(streamed.AHEAD + 1))


@pytest.mark.slow
def test_a_run_streams_the_same_and_resumes_mid_epoch_bit_for_bit(tmp_path, narrow_presets):
    """Straight through and resident, against streamed with a stop: the same generator."""

    def config(out, iterations, feed):
        return TrainConfig(
            data=DataConfig("digits"),
            model=ModelConfig("narrow-mnist"),
            optim=OptimConfig(iterations=iterations, batch_size=16),
            run=RunConfig(out=tmp_path / out, device="cpu", feed=feed, sample_every=0),
        )

    whole = train(config("whole", 6, "resident"))
    train(config("parts", 3, "streamed"))
    parts = train(config("parts", 6, "streamed"), resume=tmp_path / "parts")
    name = "generator.safetensors"
    tensors = [load_file(run.folder / name) for run in (whole, parts)]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensors[0][key], tensors[1][key]) for key in tensors[0])


class StandIn:
    """A GPU's stream, and the events that it records."""

    def __init__(self):
        self.done = []

    def record_event(self):
        event = StandIn()
        event.synchronize = lambda: self.done.append(event)
        return event


def test_rows_are_kept_until_the_gpu_has_taken_them(data, monkeypatch):
    """Not by record_stream: after a failed recording of a CUDA graph its memory may stay taken."""
    made = []

    class OnGpu(StreamedFeed):
        def _make(self, iteration):
            rows = torch.full((8, 6, 5, 3), iteration, dtype=torch.uint8)
            made.append((iteration, weakref.ref(rows)))
            return rows

    feed, stream = OnGpu(MappedRows(data, batches()), batches()), StandIn()
    feed.device, feed._taken = torch.device("cuda"), deque()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: pytest.fail("record_stream"))
    feed.seek(0)
    for prepared in range(1, 3 * streamed.AHEAD):
        feed.prepare()
        assert int(feed._rows[0, 0, 0, 0]) == prepared - 1
        assert len(stream.done) == max(0, prepared - streamed.AHEAD)
        alive = {iteration for iteration, rows in made if rows() is not None}
        gone = set(range(prepared)) - alive
        assert gone == set(range(len(stream.done)))
