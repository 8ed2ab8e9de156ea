"""``dsprites``: 737,280 white shapes with known factors (Matthey et al. 2017), 64 x 64."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from fastinfogan.data.data_dir import (
    directory_status,
    needed_data_dir,
    require_directory,
    spoilt,
)
from fastinfogan.data.dataset import Dataset, LoadRequest
from fastinfogan.data.images import Annotations
from fastinfogan.data.ingest.encoded import entry_of, identity
from fastinfogan.data.ingest.source import Items, Source, array_items
from fastinfogan.errors import UserError, one_line

SIDE, BLOCK_ROWS = 64, 1024
FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
FACTORS = ("color", "shape", "scale", "orientation", "x", "y")
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
        with np.load(path, allow_pickle=False) as content:
            factors = content["latents_classes"].astype(np.int64)
        with zipfile.ZipFile(path) as archive, archive.open("imgs.npy") as file:
            shape, dtype = _header(file)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise spoilt(path, f"cannot be read ({one_line(error)})") from None
    if dtype != np.uint8 or shape[1:] != (SIDE, SIDE) or factors.shape != (shape[0], len(FACTORS)):
        raise spoilt(path, f"holds images of {dtype} {shape} and factors of {factors.shape}")
    return array_items(
        shape[0],
        lambda start: _rows(path, shape[0], start),
        lambda kept: Annotations(factors=factors[kept], factor_names=FACTORS),
    )


def _rows(path: Path, count: int, start: int) -> Iterator[np.ndarray]:
    """The images from ``start`` on, unpacked a block at a time: 3 GB in all."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("imgs.npy") as file:
            _header(file)
            file.seek(start * SIDE * SIDE, 1)
            for first in range(start, count, BLOCK_ROWS):
                size = min(BLOCK_ROWS, count - first) * SIDE * SIDE
                rows = np.frombuffer(file.read(size), np.uint8).reshape(-1, SIDE, SIDE, 1)
                yield (rows != 0) * np.uint8(255)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise spoilt(path, f"cannot be read ({one_line(error)})") from None


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0,
    }[version]  # fmt: skip
    shape, fortran, dtype = read(file)
    if fortran:
        raise ValueError("imgs is in Fortran order")
    return shape, dtype


DSPRITES = Dataset(
    name="dsprites",
    summary="737,280 shapes with known factors, 64x64 grey; --data-dir",
    default_preset="folder",
    iterations=None,
    image_shape=(1, SIDE, SIDE),
    has_test_split=False,
    source=dsprites_source,
    status=dsprites_status,
)
