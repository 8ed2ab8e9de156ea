"""The images of a run, and what is refused because of them before training begins."""

from __future__ import annotations

from fastinfogan.config import TrainConfig
from fastinfogan.data import ImageData, find_dataset
from fastinfogan.errors import UserError
from fastinfogan.results.run import images_of


def read_images(config: TrainConfig) -> tuple[ImageData, ImageData]:
    """The images to train on and those to evaluate on: both now, not after hours of training.

    Args:
        config: resolved.

    Raises:
        UserError: they can't be had, are fewer than a batch, or lack labels that are asked for.
    """
    dataset, size, every = config.data.dataset, config.optim.batch_size, config.run.evaluate_every
    train = images_of(config, "train")
    test = images_of(config, "test") if find_dataset(dataset).has_test_split else train
    if size > len(train):
        raise UserError(
            f"--batch-size {size}: {dataset} has only {len(train)} images; 2 to {len(train)} work"
        )
    if every and test.labels is None:
        raise UserError(
            f"--evaluate-every {every}: {dataset} has no labels to evaluate against; leave it out"
        )
    return train, test
