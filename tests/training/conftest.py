"""Runs that several tests of training read, and hooks into the steps of others."""

from __future__ import annotations

import shutil

import pytest
from narrow import narrow_presets
from training_runs import few_digits, finish_briefly, small

from fastinfogan.training import trainer
from fastinfogan.training.trainer import train


@pytest.fixture(autouse=True)
def _datasets_and_presets():
    with narrow_presets(), few_digits():
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """One finished run that several tests read."""
    with narrow_presets():
        folder = tmp_path_factory.mktemp("runs") / "run"
        return train(small(folder, dataset="digits", sample_every=6))


@pytest.fixture
def brief(monkeypatch):
    finish_briefly(monkeypatch)


def _brief_run(folder, iterations):
    with pytest.MonkeyPatch.context() as patch, narrow_presets(), few_digits():
        finish_briefly(patch)
        return train(small(folder / "run", iterations)).folder


@pytest.fixture(scope="session")
def straight(tmp_path_factory):
    """A run of 15 iterations in one go, to compare with."""
    return _brief_run(tmp_path_factory.mktemp("straight"), 15)


@pytest.fixture(scope="session")
def ten(tmp_path_factory):
    """The same run after 10 iterations, with checkpoints at 5 and 10."""
    return _brief_run(tmp_path_factory.mktemp("ten"), 10)


@pytest.fixture
def copy(ten, tmp_path, brief):
    """A copy of the run of 10 iterations; what continues it ends briefly."""
    return shutil.copytree(ten, tmp_path / "run")


@pytest.fixture
def spoil(monkeypatch):
    """spoil(before, after): hooks around every step of the engines that are built.

    Each gets the engine and the number of the step, from 1; ``after`` also the losses, and gives
    those that are reported.
    """

    def install(before=None, after=None):
        build = trainer.build_engine

        def build_spoilt(config, plan):
            engine = build(config, plan)
            step, calls = engine.step, iter(range(1, 1000))

            def spoilt(batch):
                call = next(calls)
                if before is not None:
                    before(engine, call)
                losses = step(batch)
                return losses if after is None else after(engine, call, losses)

            engine.step = spoilt
            return engine

        monkeypatch.setattr(trainer, "build_engine", build_spoilt)

    return install
