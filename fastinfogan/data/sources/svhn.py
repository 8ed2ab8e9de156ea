"""``svhn``: street view house numbers (Netzer et al. 2011), 32 x 32 RGB, from MATLAB files.

Each file holds X, uint8 32 x 32 x 3 x N, and y, N labels from 1 to 10, where 10 is the digit 0.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

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

SIDE, BLOCK_ROWS = 32, 1024
# Of MATLAB's format, version 5: the file begins with a header; a compressed element has this kind.
HEADER_BYTES, COMPRESSED = 128, 15
_ORDERS = {b"IM": "<", b"MI": ">"}  # the header's end
VALUE_BYTES, INFLATED_AT_ONCE = 8, 1 << 20
MAX_VALUES = 1 << 31  # the extra file has 1.6 billion
TRAIN, EXTRA, TEST = (f"{part}_32x32.mat" for part in ("train", "extra", "test"))
EXPECTED = f"{TRAIN}, {TEST} and, for more to learn from, {EXTRA}, from http://ufldl.stanford.edu/housenumbers/"


def svhn_source(request: LoadRequest) -> Source:
    """One split: uint8 N x 32 x 32 x 3, labels 0 to 9, in the order of the files.

    The train split is ``train_32x32.mat``, then ``extra_32x32.mat`` if it is there.
    """
    root = needed_data_dir("svhn", request.data_dir, EXPECTED)
    paths = _find(root, request.split)
    return Source(
        dataset="svhn",
        split=request.split,
        shape=(SIDE, SIDE, 3),
        identity=identity(map(entry_of, paths)),
        preprocessing={},
        what="images",
        where=f"--data-dir {str(root)!r}",
        open=lambda: _open(paths),
    )


def svhn_status(data_dir: Path | None) -> tuple[bool, str]:
    """See ``Dataset.status``."""

    def look(root: Path) -> str:
        paths = [*_find(root, "train"), *_find(root, "test")]
        return f"{', '.join(path.name for path in paths)} are in {str(root)!r}"

    return directory_status(data_dir, EXPECTED, look)


def _find(root: Path, split: str) -> list[Path]:
    require_directory(root, EXPECTED)
    needed = TRAIN if split == "train" else TEST
    if not (root / needed).is_file():
        raise UserError(f"--data-dir {str(root)!r} lacks {needed}; it needs {EXPECTED}")
    extra = root / EXTRA
    return [root / needed, extra] if split == "train" and extra.is_file() else [root / needed]


def _open(paths: list[Path]) -> Items:
    parts = [_read(path) for path in paths]
    labels = np.concatenate([labels for _, labels in parts])

    def rows(start: int) -> Iterator[np.ndarray]:
        for images, _ in parts:
            for first in range(start, len(images), BLOCK_ROWS):
                yield np.ascontiguousarray(images[first : first + BLOCK_ROWS])
            start = max(0, start - len(images))

    return array_items(
        len(labels), rows, lambda kept: Annotations(labels[kept], tuple("0123456789"))
    )


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images as a view N x 32 x 32 x 3, and labels."""
    from scipy.io import loadmat, whosmat

    try:
        _check_sizes(path, {name: math.prod(shape) for name, shape, _ in whosmat(path)})
        content = loadmat(path, variable_names=("X", "y"))
        images, labels = content["X"], content["y"].ravel()
    # scipy meets damaged files with many kinds of exception; any of them means the same.
    except Exception as error:
        raise spoilt(path, f"cannot be read ({one_line(error)})") from None
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:3] != (SIDE, SIDE, 3):
        raise spoilt(path, f"holds X of {images.dtype} {images.shape}, not uint8 (32, 32, 3, N)")
    if len(labels) != images.shape[3] or not len(labels) or not np.isin(labels, range(1, 11)).all():
        raise spoilt(path, f"holds {images.shape[3]} images, but not a label from 1 to 10 for each")
    return images.transpose(3, 0, 1, 2), labels.astype(np.int64) % 10


def _check_sizes(path: Path, values: Mapping[str, int]) -> None:
    """Refuse a file that would take more memory than SVHN, or than its own headers say.

    Args:
        path: the file.
        values: how many each variable has, by its header.

    Raises:
        ValueError: it would.
    """
    if max(values["X"], values["y"]) > MAX_VALUES:
        raise ValueError(f"it claims {values['X']:,} values; at most {MAX_VALUES:,} are read")
    most = VALUE_BYTES * max(values.values()) + HEADER_BYTES
    with open(path, "rb") as file:
        order = _ORDERS.get(file.read(HEADER_BYTES)[-2:])
        while order and len(tag := file.read(8)) == 8:
            kind, size = struct.unpack(f"{order}II", tag)
            if kind == COMPRESSED:
                _check_inflated(file.read(size), most)
            else:
                file.seek(size, 1)


def _check_inflated(data: bytes, most: int) -> None:
    inflater, inflated = zlib.decompressobj(), 0
    while data:
        inflated += len(inflater.decompress(data, INFLATED_AT_ONCE))
        data = inflater.unconsumed_tail
        if inflated > most:
            raise ValueError(f"a variable unpacks to more than the {most:,} bytes it claims")


SVHN = Dataset(
    name="svhn",
    summary="73,257 house numbers (604,388 with the extra ones), 32x32 colour; --data-dir",
    default_preset="svhn",
    iterations=None,
    image_shape=(3, SIDE, SIDE),
    has_test_split=True,
    source=svhn_source,
    status=svhn_status,
)
