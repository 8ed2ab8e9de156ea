"""The images of a run, and what is refused because of them before training begins."""

from __future__ import annotations

from dataclasses import replace

from fastinfogan.config import TrainConfig
from fastinfogan.data import ImageData, find_dataset
from fastinfogan.errors import UserError, range_works
from fastinfogan.results.run import images_of


def read_images(config: TrainConfig) -> tuple[ImageData, ImageData]:
    """The images to train on and those to evaluate on: both now, not after hours of training.

    Args:
        config: resolved.

    Raises:
        UserError: they can't be had, are fewer than a batch, or nothing is known of them
            that they could be evaluated against.
    """
    dataset, size, every = config.data.dataset, config.optim.batch_size, config.run.evaluate_every
    train = images_of(config, "train")
    both = train.both_splits or not find_dataset(dataset).has_test_split
    test = train if both else images_of(config, "test")
    if train.total < 2:
        raise UserError(f"--dataset {dataset}: it has 1 image, and training takes 2 or more")
    if size > train.total:
        raise UserError(
            f"--batch-size {size}: {dataset} has only {train.total} images; "
            f"{range_works(2, train.total)}"
        )
    if every and test.labels is None and test.factors is None:
        raise UserError(
            f"--evaluate-every {every}: {dataset} has neither labels nor known factors to evaluate "
            "against; leave it out"
        )
    return train, test


def settled(config: TrainConfig, data: ImageData) -> TrainConfig:
    """The configuration, with ``--feed encoded`` where auto has come to it.

    What was a reason for it, the room on a disk, may be another when the run goes on or is
    evaluated; then all images would be decoded first, and not be those that it began with.

    Args:
        config: resolved.
        data: the images that are trained on.
    """
    if data.encoded is None:
        return config
    return replace(config, run=replace(config.run, feed="encoded"))
