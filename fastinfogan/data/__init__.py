"""The registry of datasets, name to source; a new dataset is one file and one entry here."""

from __future__ import annotations

import difflib
import typing
from pathlib import Path

from fastinfogan.data.base import Dataset, ImageData, LoadRequest, Split
from fastinfogan.data.digits import DIGITS
from fastinfogan.data.folder import FOLDER
from fastinfogan.data.idx import FASHION_MNIST, MNIST
from fastinfogan.errors import UserError

__all__ = [
    "DATASETS",
    "Dataset",
    "ImageData",
    "dataset_status",
    "find_dataset",
    "load_images",
]

DATASETS: dict[str, Dataset] = {
    dataset.name: dataset for dataset in (DIGITS, MNIST, FASHION_MNIST, FOLDER)
}


def load_images(
    name: str,
    data_dir: Path | None = None,
    split: Split = "train",
    image_size: int | None = None,
    channels: int | None = None,
    progress: bool = True,
) -> ImageData:
    """Load one split of the dataset ``name`` into memory.

    image_size: pixels a side, channels: 1 or 3; ``None``: the dataset's own. Only datasets
        without a fixed shape (``folder``) take other values.
    progress: show a bar when it takes more than a second and standard error is a terminal.
    Raises UserError.
    """
    dataset = find_dataset(name)
    if split not in typing.get_args(Split):
        raise UserError(f"--split {split!r} is unknown; choose one of train, test")
    dataset.check_shape(image_size, channels)
    return dataset.load(
        LoadRequest(
            data_dir=None if data_dir is None else Path(data_dir),
            split=split,
            image_size=image_size,
            channels=channels,
            progress=progress,
        )
    )


def dataset_status(name: str, data_dir: Path | None = None) -> tuple[bool, str]:
    """(ready to load without a download, one line: what is there or what it needs)."""
    return find_dataset(name).status(None if data_dir is None else Path(data_dir))


def find_dataset(name: str) -> Dataset:
    """The registry's entry; raises UserError for a name that is not in it."""
    if name in DATASETS:
        return DATASETS[name]
    close = difflib.get_close_matches(name, DATASETS, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise UserError(
        f"--dataset {name!r} is unknown; choose one of {', '.join(sorted(DATASETS))}{hint}"
    )
