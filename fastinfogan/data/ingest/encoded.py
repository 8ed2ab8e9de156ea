"""Encoded image files where they lie: in a folder, or in a zip or tar that is never unpacked."""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

from fastinfogan.data.ingest.listing import Entry, is_own
from fastinfogan.data.ingest.preprocess import Preprocess
from fastinfogan.data.ingest.tar import TarFiles
from fastinfogan.errors import UserError, why
from fastinfogan.sizes import check_bytes

# No image worth 128 pixels a side is larger; a file that claims to be could fill the memory.
MAX_FILE_BYTES = 1 << 28
# Opening a pipe would wait for its writer; Windows would change line ends.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
# What Python's zipfile reads; Zstandard since 3.14.
_ZIP_METHODS = {
    zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA,
    getattr(zipfile, "ZIP_ZSTANDARD", zipfile.ZIP_STORED),
}  # fmt: skip
# Archives that nothing here reads, by what they start with.
_FOREIGN = {b"7z\xbc\xaf": "7z", b"Rar!": "RAR", b"\x28\xb5\x2f\xfd": "Zstandard"}


class EncodedFiles(Protocol):
    """Files that can be read in any order, from any thread.

    Attributes:
        names: of the files, in their order.
    """

    names: Sequence[str]

    def read(self, index: int) -> bytes:
        """The content of one file.

        Raises:
            OSError: the system can't read it.
            ValueError: it is too large or no regular file, or ends too early.
            Exception: the archive's own errors.
        """


class Encoded(NamedTuple):
    """Images that are files still.

    Attributes:
        files: one each.
        preprocess: what is made of each.
        decoder: what decodes them while training (see ``decode.Decoder``); None: nothing does.
        identity: of the files, as ``identity`` has it, where they are decoded while training.
    """

    files: EncodedFiles
    preprocess: Preprocess
    decoder: str | None = None
    identity: str = ""


class FolderFiles:
    """Files below a folder.

    Args:
        root: the folder.
        names: of the files, relative to it.
    """

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self.names = names
        self._root = os.fspath(root)

    def read(self, index: int) -> bytes:
        file = os.open(f"{self._root}/{self.names[index]}", _READ)
        try:
            state = os.fstat(file)
            if not stat.S_ISREG(state.st_mode):
                raise ValueError("not a regular file")
            return _read_all(file, check_bytes(state.st_size, MAX_FILE_BYTES))
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
        # zipfile reads no more than this, whatever the member holds.
        check_bytes(member.file_size, MAX_FILE_BYTES)
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

    A system's own (a Mac's ``__MACOSX/._x.jpg`` beside ``x.jpg``) are never among them. Nothing is
    ever unpacked under its name: names only tell members apart, links and devices are not followed.

    Raises:
        UserError: the archive can't be read.
    """
    where = f"--data-dir {str(path.parent)!r}: {path.name}"

    def chosen(name: str) -> bool:
        return is_own(name) and wanted(name)

    try:
        with open(path, "rb") as file:
            start = file.read(6)
        for magic, kind in _FOREIGN.items():
            if start.startswith(magic):
                raise UserError(f"{where} is a {kind} archive; unpack it and name the folder")
        zipped = start.startswith(b"PK") or path.suffix.lower() == ".zip"
        if zipped:
            return ZipFiles(path, chosen)
        return TarFiles(path, chosen, MAX_FILE_BYTES)
    except UserError:  # what ``wanted`` has to say, too
        raise
    # zipfile, tarfile and the decompressors meet damage with a dozen kinds; any means the same.
    except Exception as error:
        reason = why(error)
        raise UserError(f"{where} cannot be read ({reason}); fetch it again") from None


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
    digest, left = hashlib.sha256(), iter(entries)
    while some := list(islice(left, 4096)):  # there may be more than the text has room for
        text = "".join([f"{name}\0{size}\0{time}\n" for name, size, time in some])
        digest.update(text.encode(errors="surrogateescape"))
    return digest.hexdigest()


def entry_of(path: Path) -> Entry:
    """The entry of one file, by its name alone."""
    state = path.stat()
    return path.name, state.st_size, state.st_mtime_ns


def _read_all(file: int, size: int) -> bytes:
    data = os.read(file, size)
    while len(data) < size and (more := os.read(file, size - len(data))):
        data += more
    return data
