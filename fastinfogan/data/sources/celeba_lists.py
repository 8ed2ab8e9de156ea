"""CelebA's two lists as people have them: as text or CSV, with or without marks, in an archive."""

from __future__ import annotations

import gzip
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from fastinfogan.data.data_dir import spoilt
from fastinfogan.errors import UserError, why

MOST_BYTES = 1 << 28  # the longer of the two has 27 MB
SUFFIX = re.compile(r"\.(?:jpe?g|png|webp|bmp|tiff?)$", re.IGNORECASE)
NUMBER = re.compile(r"\d{6}")  # what CelebA calls its images
PARTS = {"0": "train", "1": "validation", "2": "test", "train": "train", "test": "test"} | (
    dict.fromkeys(("val", "valid", "validation"), "validation")
)
ATTRIBUTE = {"1": 1, "-1": 0, "0": 0}
_IMAGES_COLUMN = ("image_id", "image", "image_name", "filename", "file", "name")
_Value = TypeVar("_Value")


class ListFile(NamedTuple):
    """One of the lists.

    Attributes:
        path: the file, or the archive that it is in.
        member: its name in the archive; None: the file itself.
    """

    path: Path
    member: str | None = None

    @property
    def name(self) -> str:
        """What to call it."""
        return self.path.name if self.member is None else f"{self.path.name}: {self.member}"

    def spoilt(self, problem: str) -> UserError:
        """The error for it."""
        if self.member is None:
            return spoilt(self.path, problem)
        return spoilt(self.path, f"holds {self.member}, which {problem}")

    def lacks(self, name: str) -> UserError:
        """The error for an image that should be in it."""
        return self.spoilt(f"has no line for {base_name(name)}")


def base_name(path: str) -> str:
    """What stands behind the last slash, of either kind."""
    return re.split(r"[/\\]", path)[-1]


def key_of(path: str) -> str:
    """What tells an image apart in a list, whose names end in .jpg whatever the image's does."""
    return SUFFIX.sub("", base_name(path)).lower()


def read_partition(file: ListFile) -> dict[str, str]:
    """Key of each image -> "train", "validation" or "test".

    Raises:
        UserError: it isn't such a list.
    """
    rows = _Rows(file)
    return dict(rows.parsed(1, lambda values: PARTS[_whole(values[0].lower())]))


def read_attributes(file: ListFile) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """The attributes' names, and key of each image -> uint8 of that many zeros and ones.

    Raises:
        UserError: it isn't such a list.
    """
    rows = _Rows(file)
    names = rows.header()

    def parse(values: list[str]) -> np.ndarray:
        return np.frombuffer(bytes(ATTRIBUTE[_whole(value)] for value in values), np.uint8)

    return names, dict(rows.parsed(len(names), parse))


class _Rows:
    """The lines of a list, split up.

    Txt: spaces between values, and first the number of images and the names of the columns. CSV:
    commas (or what a spreadsheet makes of them), and first the names. Either may lack these, and
    have numbers of lines in front.
    """

    def __init__(self, file: ListFile) -> None:
        self._file = file
        lines = _text(file).splitlines()
        numbered = ((number, line.strip(" \t\x1a\ufeff")) for number, line in enumerate(lines, 1))
        self._lines = [(number, line) for number, line in numbered if line]
        if not self._lines:
            raise file.spoilt("is empty")
        first, last = self._lines[0][1], self._lines[-1][1]
        if first.startswith(("<", "{\\rtf")):
            what = "a web page" if first.startswith("<") else "a text with formats"
            raise file.spoilt(f"is {what}, not the list")
        self._comma = next((mark for mark in ",;\t" if mark in last), None)
        self._first, self._column = self._find_first()

    def header(self) -> tuple[str, ...]:
        """The names of the columns of values.

        Raises:
            UserError: no line has them.
        """
        width = len(self._cells(self._lines[self._first][1])) - self._column - 1
        for _, line in reversed(self._lines[: self._first]):
            cells = self._cells(line)
            # CSV names the images' column, too, and what stands before it.
            before = self._column + 1
            if (self._comma and len(cells) == before + width) or cells[0].lower() in _IMAGES_COLUMN:
                return tuple(cells[before:])
            if len(cells) > 1 or width == 1:
                return tuple(cells)
        raise self._file.spoilt("has no line that names its columns before its first image")

    def parsed(
        self, columns: int, parse: Callable[[list[str]], _Value]
    ) -> Iterator[tuple[str, _Value]]:
        """(key of the image, parsed values) of each line.

        Raises:
            UserError: a line has another number of values than ``columns``, or other values.
        """
        for number, line in self._lines[self._first :]:
            name, *values = self._cells(line)[self._column :] or [""]
            if len(values) != columns:
                raise self._file.spoilt(f"has {len(values)} values in line {number}, not {columns}")
            try:
                yield key_of(name), parse(values)
            except KeyError as error:
                raise self._file.spoilt(
                    f"has the value {error.args[0][:20]!r} in line {number}"
                ) from None

    def _find_first(self) -> tuple[int, int]:
        """Number of the first line about an image, and in which column its name is."""
        for index, (_, line) in enumerate(self._lines):
            cells = self._cells(line)
            for column, cell in enumerate(cells[:2]):
                if SUFFIX.search(cell) or (len(cells) > 1 and NUMBER.fullmatch(cell)):
                    return index, column
        raise self._file.spoilt("names no image")

    def _cells(self, line: str) -> list[str]:
        if self._comma is None:
            return line.split()
        cells = [cell.strip(" \t\"'") for cell in line.split(self._comma)]
        while len(cells) > 1 and not cells[-1]:  # a comma at the end
            cells.pop()
        return cells


def _whole(value: str) -> str:
    """A number as it was before pandas wrote it: a column that once had gaps holds 1.0."""
    return value.removesuffix(".0")


def _text(file: ListFile) -> str:
    try:
        data = _content(file)
    except Exception as error:  # damaged archives raise a dozen kinds
        reason = why(error)
        raise file.spoilt(f"cannot be read ({reason})") from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    if data[1:2] == b"\0":  # the same without its mark
        return data.decode("utf-16-le", errors="replace")
    return data.decode("utf-8-sig", errors="replace")


def _content(file: ListFile) -> bytes:
    path, member = file
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            inside = member if member is not None else _only_member(archive)
            with archive.open(inside) as content:
                return _bounded(content.read(MOST_BYTES + 1))
    with open(path, "rb") as plain:
        if plain.read(2) == b"\x1f\x8b":
            with gzip.open(path) as content:
                return _bounded(content.read(MOST_BYTES + 1))
        plain.seek(0)
        return _bounded(plain.read(MOST_BYTES + 1))


def _only_member(archive: zipfile.ZipFile) -> str:
    names = [name for name in archive.namelist() if base_name(name).lower().startswith("list_")]
    if not names:
        raise ValueError("no list is in it")
    return names[0]


def _bounded(data: bytes) -> bytes:
    if len(data) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES >> 20} MiB")
    return data


def in_order(rows: Mapping[str, np.ndarray], file: ListFile, names: Sequence[str]) -> np.ndarray:
    """What a list says of the images ``names``: int64 (N, F).

    Raises:
        UserError: it has no line for one.
    """
    for name in names:
        if key_of(name) not in rows:
            raise file.lacks(name)
    return np.stack([rows[key_of(name)] for name in names]).astype(np.int64)
