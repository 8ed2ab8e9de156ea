"""Encoded image files where they lie: in a folder, or in a zip or tar that is never unpacked."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from fastinfogan.data.ingest.listing import Entry, is_own
from fastinfogan.errors import UserError, one_line

# No image worth 128 pixels a side is larger; a file that claims to be could fill the memory.
MAX_FILE_BYTES = 1 << 28


class EncodedFiles(Protocol):
    """Files that can be read in any order, from any thread.

    Attributes:
        names: of the files, in their order.
    """

    names: list[str]

    def read(self, index: int) -> bytes:
        """The content of one file.

        Raises:
            OSError: the system can't read it.
            ValueError: it is too large or no regular file, or ends too early.
            Exception: the archive's own errors.
        """


class FolderFiles:
    """Files below a folder.

    Args:
        root: the folder.
        names: of the files, relative to it.
    """

    def __init__(self, root: Path, names: list[str]) -> None:
        self.names = names
        self._root = os.fspath(root)

    def read(self, index: int) -> bytes:
        # O_NONBLOCK: opening a pipe would wait for its writer.
        path = f"{self._root}/{self.names[index]}"
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            state = os.fstat(file)
            if not stat.S_ISREG(state.st_mode):
                raise ValueError("not a regular file")
            return _read_all(file, _checked(state.st_size))
        finally:
            os.close(file)


class ZipFiles:
    """Members of a zip archive.

    Args:
        path: the archive.
        wanted: given a member's name, whether it counts.
    """

    def __init__(self, path: Path, wanted: Callable[[str], bool]) -> None:
        self._archive = zipfile.ZipFile(path)
        members = (m for m in self._archive.infolist() if not m.is_dir() and wanted(m.filename))
        self._members = sorted(members, key=lambda member: member.filename)
        self.names = [member.filename for member in self._members]

    def read(self, index: int) -> bytes:
        member = self._members[index]
        _checked(member.file_size)  # zipfile reads no more than this, whatever the member holds
        return self._archive.read(member)


class TarFiles:
    """Members of an uncompressed tar archive.

    Args:
        path: the archive.
        wanted: given a member's name, whether it counts.
    """

    def __init__(self, path: Path, wanted: Callable[[str], bool]) -> None:
        with tarfile.open(path, "r:") as archive:
            members = [m for m in archive if m.isreg() and not m.issparse() and wanted(m.name)]
        members.sort(key=lambda member: member.name)
        self.names = [member.name for member in members]
        self._extents = [(member.offset_data, member.size) for member in members]
        self._path = os.fspath(path)

    def read(self, index: int) -> bytes:
        offset, size = self._extents[index]
        file = os.open(self._path, os.O_RDONLY)
        try:
            data = os.pread(file, _checked(size), offset)
        finally:
            os.close(file)
        if len(data) < size:
            raise ValueError("the archive ends within this member")
        return data


def open_archive(path: Path, wanted: Callable[[str], bool]) -> ZipFiles | TarFiles:
    """The members whose name ``wanted`` accepts, sorted by name.

    A system's own (a Mac's ``__MACOSX/._x.jpg`` beside ``x.jpg``) are never among them. Nothing is
    ever unpacked: names only tell members apart, links and devices are not followed.

    Raises:
        UserError: the archive can't be read.
    """
    kind = ZipFiles if path.suffix.lower() == ".zip" else TarFiles
    try:
        return kind(path, lambda name: is_own(name) and wanted(name))
    except UserError:  # what ``wanted`` has to say
        raise
    except (OSError, EOFError, ValueError, tarfile.TarError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise UserError(
            f"--data-dir {str(path.parent)!r}: {path.name} cannot be read ({reason}); fetch it "
            "again"
        ) from None


class ChosenFiles:
    """Some of other files.

    Args:
        files: the others.
        indices: of those chosen, in their order.
    """

    def __init__(self, files: EncodedFiles, indices: Sequence[int]) -> None:
        self.names = [files.names[index] for index in indices]
        self._files, self._indices = files, indices

    def read(self, index: int) -> bytes:
        return self._files.read(self._indices[index])


def identity(entries: Iterable[Entry]) -> str:
    """SHA-256 of paths, sizes and times: changes whenever a file is added, removed or replaced."""
    text = "".join([f"{name}\0{size}\0{time}\n" for name, size, time in entries])
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def entry_of(path: Path) -> Entry:
    """The entry of one file, by its name alone."""
    state = path.stat()
    return path.name, state.st_size, state.st_mtime_ns


def _checked(size: int) -> int:
    if size > MAX_FILE_BYTES:
        raise ValueError(f"{size >> 20} MiB; at most {MAX_FILE_BYTES >> 20} are read")
    return size


def _read_all(file: int, size: int) -> bytes:
    data = os.read(file, size)
    while len(data) < size and (more := os.read(file, size - len(data))):
        data += more
    return data
