"""Encoded image files where they lie: in a folder, or in a zip or tar that is never unpacked."""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from fastinfogan.data.data_dir import require_directory
from fastinfogan.data.ingest.tar import TarFiles
from fastinfogan.errors import UserError, one_line

SUFFIXES = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff")
EXPECTED = f"image files ({', '.join(SUFFIXES)})"
# No image worth 128 pixels a side is larger; a file that claims to be could fill the memory.
MAX_FILE_BYTES = 1 << 28
# What Python's zipfile reads; Zstandard since 3.14.
_ZIP_METHODS = {
    zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA,
    getattr(zipfile, "ZIP_ZSTANDARD", zipfile.ZIP_STORED),
}  # fmt: skip
# Archives that nothing here reads, by what they start with.
_FOREIGN = {b"7z\xbc\xaf": "7z", b"Rar!": "RAR", b"\x28\xb5\x2f\xfd": "Zstandard"}

Entry = tuple[str, int, int]  # relative path with "/", bytes, mtime in ns


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

    Raises:
        Exception: whatever zipfile raises for a damaged archive.
        UserError: no member can be read: they are encrypted, or compressed in an unknown way.
    """

    def __init__(self, path: Path, wanted: Callable[[str], bool]) -> None:
        self._archive = zipfile.ZipFile(path)
        members = (m for m in self._archive.infolist() if not m.is_dir() and wanted(m.filename))
        self._members = sorted(members, key=lambda member: member.filename)
        self.names = [member.filename for member in self._members]
        if self._members and None not in (reasons := set(map(_locked, self._members))):
            raise UserError(
                f"--data-dir {str(path.parent)!r}: {path.name} {' and '.join(sorted(reasons))}; "
                "unpack it and name the folder"
            )

    def read(self, index: int) -> bytes:
        """See ``EncodedFiles``."""
        member = self._members[index]
        _checked(member.file_size)  # zipfile reads no more than this, whatever the member holds
        return self._archive.read(member)


def _locked(member: zipfile.ZipInfo) -> str | None:
    """Why Python can't read a member, if it can't."""
    if member.flag_bits & 1:
        return "is encrypted"
    if member.compress_type not in _ZIP_METHODS:
        name = zipfile.compressor_names.get(member.compress_type, f"method {member.compress_type}")
        return f"is compressed with {name}"
    return None


def open_archive(path: Path, wanted: Callable[[str], bool]) -> ZipFiles | TarFiles:
    """The members whose name ``wanted`` accepts, sorted by name.

    Nothing is ever unpacked under its name: names only tell members apart, links and devices are
    not followed.

    Raises:
        UserError: the archive can't be read.
    """
    where = f"--data-dir {str(path.parent)!r}: {path.name}"
    try:
        with open(path, "rb") as file:
            start = file.read(6)
        for magic, kind in _FOREIGN.items():
            if start.startswith(magic):
                raise UserError(f"{where} is a {kind} archive; unpack it and name the folder")
        zipped = start.startswith(b"PK") or path.suffix.lower() == ".zip"
        return ZipFiles(path, wanted) if zipped else TarFiles(path, wanted, MAX_FILE_BYTES)
    except UserError:  # what ``wanted`` has to say, too
        raise
    # zipfile, tarfile and the decompressors meet damage with a dozen kinds; any means the same.
    except Exception as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise UserError(f"{where} cannot be read ({reason}); fetch it again") from None


def list_images(root: Path) -> tuple[list[Entry], list[tuple[str, str]]]:
    """List the image files below ``root``.

    Names that begin with a dot are left alone. Links are followed, but each folder is read once,
    so that loops end. A file that can't be looked at has -1 bytes.

    Returns:
        The files, sorted by path, and (path, reason) of unreadable folders.

    Raises:
        UserError: ``root`` isn't a directory with something in it.
    """
    require_directory(root, EXPECTED)
    endings = tuple(f".{suffix}" for suffix in SUFFIXES)
    entries: list[Entry] = []
    unreadable: list[tuple[str, str]] = []
    seen = {os.path.realpath(root)}
    todo = [("", os.fspath(root))]
    while todo:
        prefix, folder = todo.pop()
        try:
            found = list(os.scandir(folder))
        except OSError as error:
            unreadable.append((folder, f"folder cannot be read: {error.strerror}"))
            continue
        subfolders = []
        for entry in found:  # kept lean: there may be hundreds of thousands
            name = entry.name
            if name[0] == ".":
                continue
            if name.lower().endswith(endings):
                try:
                    state = entry.stat()
                except OSError:  # a broken link; reading it will say so
                    entries.append((prefix + name, -1, 0))
                    continue
                if not stat.S_ISDIR(state.st_mode):
                    entries.append((prefix + name, state.st_size, state.st_mtime_ns))
                    continue
            if _is_folder(entry):
                subfolders.append((name, entry.path))
        for name, path in sorted(subfolders):
            real = os.path.realpath(path)
            if real not in seen:
                seen.add(real)
                todo.append((f"{prefix}{name}/", path))
    return sorted(entries), unreadable


def identity(entries: Iterable[Entry]) -> str:
    """SHA-256 of paths, sizes and times: changes whenever a file is added, removed or replaced."""
    text = "".join([f"{name}\0{size}\0{time}\n" for name, size, time in entries])
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def entry_of(path: Path) -> Entry:
    """The entry of one file, by its name alone."""
    state = path.stat()
    return path.name, state.st_size, state.st_mtime_ns


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _checked(size: int) -> int:
    if size > MAX_FILE_BYTES:
        raise ValueError(f"{size >> 20} MiB; at most {MAX_FILE_BYTES >> 20} are read")
    return size


def _read_all(file: int, size: int) -> bytes:
    data = os.read(file, size)
    while len(data) < size and (more := os.read(file, size - len(data))):
        data += more
    return data
