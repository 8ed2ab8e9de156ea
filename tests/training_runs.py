"""Short runs: how the tests of training make them, read them and compare them."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fastinfogan.config import DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig
from fastinfogan.data import DATASETS, ImageData, find_dataset, load_images
from fastinfogan.results.run import Run
from fastinfogan.training.checkpoint import list_checkpoints
from fastinfogan.training.metrics import read_metrics

# A command that trains for as long as small() does.
NARROW = (
    "train", "--dataset", "few-digits", "--preset", "narrow-mnist", "--device", "cpu",
    "--batch-size", "16", "--iterations", "12", "--log-every", "4",
)  # fmt: skip


@functools.cache
def _few_digits() -> ImageData:
    digits = load_images("digits")
    rows = range(0, 19 * 256, 19)  # the digits are sorted by label
    return ImageData("few-digits", digits.images[rows], digits.labels[rows], digits.label_names)


@contextlib.contextmanager
def few_digits() -> Iterator[None]:
    """Inside, there is a dataset of 256 digits, quicker to load and to put in order than 5,000."""
    few = _few_digits()
    entry = replace(find_dataset("digits"), name=few.name, load=lambda request: few)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, few.name, entry)
        yield


def small(out: Path, iterations: int = 12, dataset: str = "few-digits", **run) -> TrainConfig:
    """The MNIST networks at a sixteenth of their width."""
    settings = {"log_every": 4, "sample_every": 0, "checkpoint_every": 5, **run}
    return TrainConfig(
        data=DataConfig(dataset),
        model=ModelConfig(preset="narrow-mnist"),
        optim=OptimConfig(iterations=iterations, batch_size=16),
        run=RunConfig(out=out, device="cpu", **settings),
    )


def finish_briefly(patch: pytest.MonkeyPatch) -> None:
    """Runs end with a bare summary: evaluation and pictures take longer than the training here."""

    def finish(run, *args, ranks, **kwargs):
        summary = run.folder / "summary.json"
        ranks.first(lambda: summary.write_text(json.dumps({"iterations": run.iteration})))

    patch.setattr(Run, "finish", finish)


def newest_state(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(list_checkpoints(folder / "checkpoints")[0])


def assert_same_weights(a: Path, b: Path) -> None:
    """Every tensor of the last checkpoints, bit for bit."""
    left, right = newest_state(a), newest_state(b)
    assert left.keys() == right.keys()
    assert not [name for name in left if not torch.equal(left[name], right[name])]


def assert_same_run(a: Path, b: Path) -> None:
    """Every tensor of the last checkpoints, and every logged mean, bit for bit."""
    assert_same_weights(a, b)
    rows = [read_metrics(folder / "metrics.jsonl") for folder in (a, b)]
    for row in (*rows[0], *rows[1]):
        del row["seconds"], row["images_per_s"]
    assert rows[0] == rows[1]


class Killed(BaseException):
    """What ends a session without a chance to save."""
