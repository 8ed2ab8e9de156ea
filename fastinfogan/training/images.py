"""The images of a run, and what is refused because of them before training begins."""

from __future__ import annotations

from fastinfogan.config import TrainConfig
from fastinfogan.data import ImageData, find_dataset
from fastinfogan.errors import UserError, range_works
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
    both = train.both_splits or not find_dataset(dataset).has_test_split
    test = train if both else images_of(config, "test")
    if len(train) < 2:
        raise UserError(f"--dataset {dataset}: it has 1 image, and training takes 2 or more")
    if size > len(train):
        raise UserError(
            f"--batch-size {size}: {dataset} has only {len(train)} images; "
            f"{range_works(2, len(train))}"
        )
    if every and test.labels is None:
        raise UserError(
            f"--evaluate-every {every}: {dataset} has no labels to evaluate against; leave it out"
        )
    return train, test
