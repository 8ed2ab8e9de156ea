"""``dsprites``: 737,280 white shapes with known factors (Matthey et al. 2017), 64 x 64."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fastinfogan.data.data_dir import (
    directory_status,
    needed_data_dir,
    require_directory,
    spoilt,
)
from fastinfogan.data.dataset import Dataset, LoadRequest
from fastinfogan.data.factors import Factor
from fastinfogan.data.images import Annotations
from fastinfogan.data.ingest.encoded import entry_of, identity
from fastinfogan.data.ingest.source import Items, Source, array_items
from fastinfogan.data.npz import read_array, read_exactly, stored_array
from fastinfogan.errors import UserError, one_line

SIDE, BLOCK_ROWS = 64, 1024
MOST_VALUES = 1 << 16  # of a factor; the published ones have 40 at most
FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
FACTORS = (
    Factor("color"),
    Factor("shape"),
    Factor("scale", "ordered"),
    Factor("orientation", "cyclic", 39),  # 40 angles from 0 to 2 pi, both included
    Factor("x", "ordered"),
    Factor("y", "ordered"),
)
NAMES = tuple(factor.name for factor in FACTORS)
EXPECTED = f"{FILE}, from https://github.com/google-deepmind/dsprites-dataset"


def dsprites_source(request: LoadRequest) -> Source:
    """The images: uint8 N x 64 x 64 x 1, 0 or 255; factors: the published ``latents_classes``."""
    root = needed_data_dir("dsprites", request.data_dir, EXPECTED)
    path = _find(root)
    return Source(
        dataset="dsprites",
        split="all",
        shape=(SIDE, SIDE, 1),
        identity=identity([entry_of(path)]),
        preprocessing={},
        what="images",
        where=f"--data-dir {str(root)!r}",
        open=lambda: _open(path),
        factors=FACTORS,
    )


def dsprites_status(data_dir: Path | None) -> tuple[bool, str]:
    """See ``Dataset.status``."""
    return directory_status(
        data_dir, EXPECTED, lambda found: f"{_find(found).name} is in {str(found)!r}"
    )


def _find(root: Path) -> Path:
    require_directory(root, EXPECTED)
    if not (root / FILE).is_file():
        raise UserError(f"--data-dir {str(root)!r} lacks {EXPECTED}")
    return root / FILE


def _open(path: Path) -> Items:
    try:
        # Not the pickled "metadata": only plain arrays are ever read.
        with stored_array(path, "imgs") as (_, shape, dtype):
            pass
        factors = read_array(path, "latents_classes")
    except Exception as error:  # of a dozen kinds; any of them means the same
        raise spoilt(path, f"cannot be read ({one_line(error)})") from None
    if dtype != np.uint8 or shape[1:] != (SIDE, SIDE) or factors.shape != (shape[0], len(FACTORS)):
        raise spoilt(path, f"holds images of {dtype} {shape} and factors of {factors.shape}")
    if not len(factors):
        raise spoilt(path, "holds no image")
    if factors.dtype.kind not in "iu" or factors.min() < 0 or factors.max() > MOST_VALUES:
        raise spoilt(path, "holds latents_classes that are not whole numbers from 0 on")
    factors = factors.astype(np.int64)
    return array_items(
        shape[0],
        lambda start: _rows(path, shape[0], start),
        lambda kept: Annotations(factors=factors[kept], factor_names=NAMES),
    )


def _rows(path: Path, count: int, start: int) -> Iterator[np.ndarray]:
    """The images from ``start`` on, unpacked a block at a time: 3 GB in all."""
    try:
        with stored_array(path, "imgs") as (file, _, _):
            file.seek(start * SIDE * SIDE, 1)
            for first in range(start, count, BLOCK_ROWS):
                size = min(BLOCK_ROWS, count - first) * SIDE * SIDE
                rows = np.frombuffer(read_exactly(file, size), np.uint8)
                yield (rows.reshape(-1, SIDE, SIDE, 1) != 0) * np.uint8(255)
    except Exception as error:  # as above
        raise spoilt(path, f"cannot be read ({one_line(error)})") from None


DSPRITES = Dataset(
    name="dsprites",
    summary="737,280 shapes with known factors, 64x64 grey; --data-dir",
    default_preset="sprites",
    iterations=None,
    image_shape=(1, SIDE, SIDE),
    has_test_split=False,
    source=dsprites_source,
    status=dsprites_status,
)
