"""Saving beside training: from a copy, one after the other, by count or by time, and honestly."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from training_runs import assert_same_run, small

from fastinfogan.config import RunConfig, resolve
from fastinfogan.errors import TrainingDiverged, UserError
from fastinfogan.results.run import Run
from fastinfogan.training import saving, trainer
from fastinfogan.training.checkpoint import (
    Progress,
    engine_state,
    list_checkpoints,
    save_checkpoint,
)
from fastinfogan.training.metrics import MetricsLog, read_metrics
from fastinfogan.training.saving import LEAST, TIMES, Rhythm, Saver
from fastinfogan.training.trainer import Training, train

PATIENCE = 60  # seconds, after which what a test waits for won't come any more
pytestmark = pytest.mark.usefixtures("brief")


@pytest.fixture
def saves(monkeypatch):
    """saves(hook): ``hook(iteration, save)`` in place of every saving of a checkpoint."""

    def install(hook):
        def save(folder, tensors, progress, decoder):
            hook(progress.iteration, lambda: save_checkpoint(folder, tensors, progress, decoder))

        monkeypatch.setattr(trainer, "save_checkpoint", save)

    return install


def full_disk(path):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


# -- The copy ------------------------------------------------------------------------------------


@pytest.mark.parametrize("average", [0, 50])
def test_training_goes_on_while_what_was_is_saved(tmp_path, spoil, saves, average):
    """The checkpoint of 5 is written after the 8th iteration, and is the one written at once."""
    reached, contents = threading.Event(), []

    def run(name, hook):
        def noted(iteration, save):
            hook()
            path = save()
            if iteration == 5:
                contents.append(path.read_bytes())

        saves(noted)
        config = small(tmp_path / name, 12)
        train(replace(config, optim=replace(config.optim, average=average)))

    run("at once", lambda: None)
    spoil(before=lambda engine, call: reached.set() if call == 9 else None)
    run("late", lambda: reached.wait(PATIENCE))
    assert reached.is_set() and contents[0] == contents[1]
    assert_same_run(tmp_path / "late", tmp_path / "at once")


def test_a_checkpoint_is_the_file_that_it_would_be_with_tensors_side_by_side(tmp_path):
    """Copies keep the memory format of what they copy; files don't, nor does a number get a row."""
    maps = torch.arange(120.0).view(2, 3, 4, 5).to(memory_format=torch.channels_last)
    tensors = {"maps": maps, "step": torch.tensor(7), "window": torch.zeros(3, dtype=torch.float64)}
    path = save_checkpoint(tmp_path / "checkpoints", tensors, Progress(3, 0, 0, 0, 0, 0.0, "", ""))
    plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
    assert path.read_bytes() == safetensors.torch.save(plain)


# -- One after the other -------------------------------------------------------------------------


def test_a_count_is_kept_exactly_and_never_two_are_saved_at_once(tmp_path, saves, monkeypatch):
    busy, events = threading.Lock(), []
    sync = MetricsLog.sync

    def synced(log):
        events.append("rows")
        sync(log)

    def slow(iteration, save):
        assert busy.acquire(blocking=False)
        assert threading.current_thread() is not threading.main_thread()
        time.sleep(0.05)  # several iterations
        save()
        events.append(iteration)
        busy.release()

    def copied(engine):
        assert not busy.locked()  # there is one copy at a time
        return engine_state(engine)

    monkeypatch.setattr(MetricsLog, "sync", synced)
    monkeypatch.setattr(trainer, "engine_state", copied)
    saves(slow)
    train(small(tmp_path / "run", 7, checkpoint_every=2))
    assert events == ["rows", 2, "rows", 4, "rows", 6, "rows", 7]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_signal_waits_for_what_is_being_saved_and_saves_the_last(tmp_path, spoil, saves):
    events, sent = [], threading.Event()

    def before(engine, call):
        if call == 8:
            os.kill(os.getpid(), signal.SIGTERM)
            sent.set()

    def late(iteration, save):
        assert sent.wait(PATIENCE)
        save()
        events.append(iteration)

    spoil(before=before)
    saves(late)
    out = tmp_path / "run"
    assert train(small(out, 15)).interrupted == signal.SIGTERM
    assert events == [5, 8]
    assert [path.stem for path in list_checkpoints(out / "checkpoints")] == [
        "step_00000008", "step_00000005",
    ]  # fmt: skip


# -- What goes wrong -----------------------------------------------------------------------------


def test_a_full_disk_ends_the_run_at_the_next_look(tmp_path, spoil, saves):
    """With the file, what is safe and how to go on; training doesn't run on to its end."""
    failed, calls = threading.Event(), []

    def before(engine, call):
        calls.append(call)
        if call > 10:
            assert failed.wait(PATIENCE)
            time.sleep(0.1)

    def hook(iteration, save):
        if iteration < 10:
            save()
        else:
            failed.set()
            full_disk(out / "checkpoints" / "x")

    out = tmp_path / "run"
    spoil(before=before)
    saves(hook)
    with pytest.raises(UserError) as caught:
        train(small(out, 10**6))
    says = str(caught.value)
    assert says.startswith(f"{out}/checkpoints/x can't be written (No space left on device)")
    assert f"up to step_00000005 is safe; free space, then fastinfogan train --resume {out}" in says
    assert len(calls) < 15  # when it would have to wait, with the next checkpoint


def test_of_two_errors_the_one_of_the_earlier_state_counts(tmp_path, spoil, saves):
    """A bad loss at 8 names the last good checkpoint, for which it waits; or that went wrong."""

    def bad_at_7(engine, call, losses):
        return losses._replace(g_loss=losses.g_loss * float("nan")) if call == 7 else losses

    def slow(iteration, save):
        time.sleep(0.2)
        save()

    spoil(after=bad_at_7)
    saves(slow)
    with pytest.raises(TrainingDiverged, match="iteration 8: g_loss is nan.*step_00000005"):
        train(small(tmp_path / "late", 12))

    def fails(iteration, save):
        time.sleep(0.2)
        full_disk("a file")

    saves(fails)
    with pytest.raises(UserError, match="a file can't be written .*there is no checkpoint yet"):
        train(small(tmp_path / "full", 12))


def test_too_little_memory_for_saving_is_one_line(tmp_path, saves):
    def hook(iteration, save):
        raise MemoryError

    saves(hook)
    with pytest.raises(UserError, match="--batch-size 16: cpu has too little memory; about"):
        train(small(tmp_path / "run", 12))


def test_whatever_ends_the_block_the_work_is_finished():
    done, stop = [], KeyboardInterrupt()

    def work():
        time.sleep(0.05)
        done.append(1)
        raise OSError

    with pytest.raises(KeyboardInterrupt), Saver() as saver:
        saver.start(work)
        raise stop
    assert done == [1]
    with pytest.raises(OSError), Saver() as saver:
        saver.start(work)
        raise ValueError
    assert done == [1, 1]


# -- By time -------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(saving, "time", clock)
    return clock


def test_by_time_saving_costs_two_percent_at_most(clock):
    rhythm = Rhythm(None)
    clock.now += LEAST - 1
    assert not rhythm.due(10**6)
    clock.now += 1
    assert rhythm.due(7) and not rhythm.due(0)

    for took in (0.5, 10.0):
        began = clock.now
        work = rhythm.timed(lambda: lambda: None)
        clock.now += took / 2  # copied
        assert not rhythm.due(8)
        clock.now += took / 2
        work()
        while not rhythm.due(9):
            clock.now += 0.5
        assert took / (clock.now - began) <= 0.02
        assert clock.now - began == took + max(LEAST, TIMES * took)


def test_while_it_is_being_saved_it_is_not_due(clock):
    rhythm = Rhythm(None)
    clock.now += LEAST
    rhythm.timed(lambda: lambda: None)
    clock.now += 10**6
    assert not rhythm.due(10)


def test_a_count_asks_no_clock(clock):
    clock.now += 10**6
    assert [n for n in range(10) if Rhythm(3).due(n)] == [3, 6, 9]
    assert not any(Rhythm(0).due(n) for n in range(10))


def test_by_time_is_the_default_and_leaves_the_same_run(tmp_path, straight, spoil, saves, clock):
    """A minute passes in the iterations 4 and 12."""
    assert RunConfig().sample_every is None and RunConfig().checkpoint_every is None

    def before(engine, call):
        clock.now += LEAST * (call in (4, 12))

    def noted(iteration, save):
        saved.append(iteration)
        save()

    spoil(before=before)
    saves(noted)
    out, saved = tmp_path / "run", []
    train(small(out, 15, sample_every=None, checkpoint_every=None))
    drawn = {int(path.stem[-8:]) for path in (out / "pictures").iterdir()}
    # That of 12 counts if what 4 left was written when it began.
    assert saved in ([4, 12, 15], [4, 15]) and drawn in ({4, 12}, {4})
    assert_same_run(out, straight)


def test_a_gpu_looks_at_clock_and_signals_every_250_iterations(tmp_path):
    """However rarely something is logged; and at what is to be saved exactly then."""
    config = small(tmp_path, 10**6, sample_every=None, checkpoint_every=None, log_every=10**6)
    training = Training(resolve(replace(config, run=replace(config.run, out=None))), resumed=False)
    training.iteration = 1
    assert training._until_next_pause() == 249
    training.config = replace(config, run=replace(config.run, checkpoint_every=33))
    training.iteration = 34
    assert training._until_next_pause() == 32


# -- Wall time -----------------------------------------------------------------------------------


def test_the_speed_that_is_reported_counts_every_pause(tmp_path, monkeypatch):
    """Images over speed, row by row, is the time on the wall: with pictures and evaluations."""
    draw = Run.pictures

    def slowly(run):
        time.sleep(0.3)
        return draw(run)

    monkeypatch.setattr(Run, "pictures", slowly)
    train(small(tmp_path / "run", 12, sample_every=6, evaluate_every=8))
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert "evaluation" in rows[1]
    seconds = sum(4 * 16 / row["images_per_s"] for row in rows)
    assert seconds == pytest.approx(rows[-1]["seconds"], rel=0.02, abs=0.02)
    assert seconds > 0.3
