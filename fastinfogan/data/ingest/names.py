"""Names of very many files, mapped from a file: a machine holds them once, whatever its ranks."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fastinfogan.errors import why
from fastinfogan.files import atomic_write
from fastinfogan.tell import Tell

NAMES = "names"  # of the file, in the folder of a cache
_BYTES = "surrogateescape"  # systems' names that are no UTF-8
_AT_A_TIME = 4096  # names that are compared together


class MappedNames(Sequence[str]):
    """Names in a file: their count and where each ends, uint64 as this machine has it, then all.

    Args:
        path: the file.

    Raises:
        OSError: it can't be read.
        ValueError: it is too short.
    """

    def __init__(self, path: Path) -> None:
        with open(path, "rb") as file:
            self._file = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        content = memoryview(self._file)
        self._begin = 8 * (1 + content[:8].cast("Q")[0])
        if len(content) < self._begin:
            raise ValueError("it ends before its names")
        self._ends = content[8 : self._begin].cast("Q")

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.text(index, index + 1).decode(errors=_BYTES)

    def text(self, first: int, last: int) -> bytes:
        """Names from ``first`` on and before ``last``, one after the other."""
        start = self._ends[first - 1] if first else 0
        return self._file[self._begin + start : self._begin + self._ends[last - 1]]

    def hold(self, names: Sequence[str]) -> bool:
        """Whether they are these."""
        if len(self) != len(names):
            return False
        end = 0
        for first in range(0, len(names), _AT_A_TIME):
            some = [name.encode(errors=_BYTES) for name in names[first : first + _AT_A_TIME]]
            last = first + len(some)
            ends = (end + np.cumsum([len(name) for name in some])).tolist()
            if self._ends[first:last].tolist() != ends or self.text(first, last) != b"".join(some):
                return False
            end = ends[-1]
        return True


def mapped(names: Sequence[str], folder: Path, tell: Tell) -> Sequence[str]:
    """The same names, in a file that is written unless it is there.

    Args:
        names: relative paths.
        folder: a cache that has these files' identity in its own name.
        tell: gets a line if the file can't be had; then names stay in memory.
    """
    path = folder / NAMES
    try:
        found = _found(path)
        if found is None or not found.hold(names):
            sizes = (len(name.encode(errors=_BYTES)) for name in names)
            ends = np.fromiter(sizes, np.uint64, len(names)).cumsum()
            numbers = np.array([len(names)], np.uint64).tobytes() + ends.tobytes()
            atomic_write(path, numbers + "".join(names).encode(errors=_BYTES))
            found = MappedNames(path)
        return found
    except OSError as error:
        tell(f"{path} can't be had ({why(error)}): each process keeps all names in memory")
        return names


def _found(path: Path) -> MappedNames | None:
    try:
        return MappedNames(path)
    except (FileNotFoundError, ValueError):
        return None
