"""Arrays in an .npz file of somebody else's: no pickles, and no more memory than its sizes say."""

from __future__ import annotations

import contextlib
import math
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

MAX_BYTES = 1 << 28  # of an array that is read whole
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Stored(NamedTuple):
    """An array in a file.

    Attributes:
        file: at its first value.
        shape: as its header has it; there are as many bytes as it asks for.
        dtype: of plain numbers.
    """

    file: IO[bytes]
    shape: tuple[int, ...]
    dtype: np.dtype


@contextlib.contextmanager
def stored_array(path: Path, name: str) -> Iterator[Stored]:
    """Open an array without reading it.

    Args:
        path: the .npz file.
        name: of the array.

    Raises:
        Exception: zipfile and numpy meet damaged files with a dozen kinds.
    """
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"{name} has the unknown version {version}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of numpy, about headers of Python 2
            shape, in_columns, dtype = _HEADERS[version](file)
        if dtype.kind not in "biuf":
            raise ValueError(f"{name} holds {dtype}, not numbers")
        if in_columns and len(shape) > 1:
            raise ValueError(f"{name} is in Fortran order")
        if min(shape, default=0) < 0:
            raise ValueError(f"{name} has the shape {shape}")
        size = archive.getinfo(f"{name}.npy").file_size - file.tell()
        needed = math.prod(shape) * dtype.itemsize
        if size != needed:
            raise ValueError(f"{name} has {size:,} bytes; {dtype} {shape} takes {needed:,}")
        yield Stored(file, shape, dtype)


def read_array(path: Path, name: str) -> np.ndarray:
    """Read an array whole.

    Args:
        path: the .npz file.
        name: of the array.

    Raises:
        Exception: as ``stored_array``; ValueError if it takes more than ``MAX_BYTES``.
    """
    with stored_array(path, name) as (file, shape, dtype):
        size = math.prod(shape) * dtype.itemsize
        if size > MAX_BYTES:
            raise ValueError(f"{name} takes {size:,} bytes; at most {MAX_BYTES:,} are read")
        # A bytearray's memory can be written to, and torch warns of an array whose can't.
        return np.frombuffer(bytearray(read_exactly(file, size)), dtype).reshape(shape)


def read_exactly(file: IO[bytes], size: int) -> bytes:
    """So many bytes.

    Raises:
        EOFError: there are fewer.
    """
    data = file.read(size)
    if len(data) < size:
        raise EOFError("it is cut short")
    return data
