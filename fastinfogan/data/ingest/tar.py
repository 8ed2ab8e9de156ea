"""Files in a tar archive, compressed or not: found once, then read in any order."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

from fastinfogan.data.fetch import cache_directory, unusable
from fastinfogan.sizes import check_bytes

# What a compressed file starts with, and what decompresses it. (tarfile's own way compares no
# checksum.)
_COMPRESSIONS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
# Headers with content, which tarfile reads whole: long names and the like.
_HEADERS = frozenset(
    {
        tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
    }
)  # fmt: skip
_MOST_HEADER_BYTES = 1 << 20
_MOST_PADDING = 1 << 22  # bytes after the end mark: archives are filled up to whole records


class TarFiles:
    """Members of a tar archive.

    A compressed one can only be read from its beginning: its files are copied to one temporary
    file, which has no name and ends with this object.

    Args:
        path: the archive.
        wanted: given a member's name, whether it counts.
        most: bytes of a member that is read; a larger one is listed, and refused when asked for.

    Attributes:
        names: of the members, sorted.
        extents: offset and size of each one's content; in the archive, if that isn't compressed.

    Raises:
        Exception: whatever tarfile and the decompressors raise for a damaged archive.
        UserError: there is no room for the temporary file.
    """

    def __init__(self, path: Path, wanted: Callable[[str], bool], most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        decompress = _decompressor(path)
        self._file = open(path, "rb")
        if decompress is None:
            found = _members(self._file, "r:", wanted, lambda _, member: member.offset_data)
        else:
            archived, folder = self._file, cache_directory("ingested")
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=folder)
            except OSError as error:
                raise unusable(folder, error) from None
            with archived, decompress(archived) as stream:
                found = _members(stream, "r|", wanted, self._copied)
        found.sort()
        self.names = [name for name, _, _ in found]
        self.extents = [(offset, size) for _, offset, size in found]

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def read(self, index: int) -> bytes:
        """See ``EncodedFiles``."""
        offset, size = self.extents[index]
        check_bytes(size, self._most)
        with self._lock:
            self._file.seek(offset)
            data = self._file.read(size)
        if len(data) < size:
            raise ValueError("the archive ends within this member")
        return data

    def _copied(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> int:
        """Where the temporary file has the member's content."""
        offset = self._file.tell()
        if member.size <= self._most:  # nobody will read a larger one
            data = archive.extractfile(member).read()
            try:
                self._file.write(data)
                self._file.flush()
            except OSError as error:
                raise unusable(cache_directory("ingested"), error) from None
        return offset


def is_compressed(path: Path) -> bool:
    """Whether an archive is, whatever it is called."""
    return _decompressor(path) is not None


def _decompressor(path: Path) -> Callable[[IO[bytes]], IO[bytes]] | None:
    with open(path, "rb") as file:
        start = file.read(6)
    return next((f for magic, f in _COMPRESSIONS.items() if start.startswith(magic)), None)


class _Header(tarfile.TarInfo):
    """A member's header. tarfile takes a damaged one for the end, and would lose what follows."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> _Header:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in _HEADERS and header.size > _MOST_HEADER_BYTES):
            raise ValueError(f"one of its headers claims {header.size:,} bytes")
        return header

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _Header:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.EmptyHeaderError:
            raise ValueError("it is cut short: its end mark is missing") from None
        except tarfile.HeaderError as error:
            raise ValueError(f"damaged at byte {archive.offset:,}: {error}") from None


def _members(
    file: IO[bytes],
    mode: str,
    wanted: Callable[[str], bool],
    place: Callable[[tarfile.TarFile, tarfile.TarInfo], int],
) -> list[tuple[str, int, int]]:
    """(name, offset, size) of each file that is wanted; ``place`` says where its content is."""
    found = []
    with tarfile.open(fileobj=file, mode=mode, tarinfo=_Header) as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # tarfile would keep them all
            if member.size < 0:  # of an extended header; tarfile would go back, and never end
                raise ValueError(f"one of its headers claims {member.size:,} bytes")
            if member.isreg() and not member.issparse() and wanted(member.name):
                found.append((member.name, place(archive, member), member.size))
        if mode == "r:":
            file.seek(archive.offset)
        rest = archive.fileobj.read(_MOST_PADDING)  # to the end: that compares checksums, too
        if len(rest) == _MOST_PADDING or any(rest):
            raise ValueError(f"it holds more after its end mark at byte {archive.offset:,}")
    return found
