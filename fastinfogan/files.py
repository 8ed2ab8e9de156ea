"""Files that survive a kill, a power cut and a full disk: there whole, or not at all."""

from __future__ import annotations

import contextlib
import errno
import glob
import io
import itertools
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

# Some network file systems can't sync folders, and say so in one of these ways.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)


def atomic_write(path: Path, content: bytes) -> None:
    """Write a file so that it's there whole or not at all, even after a power cut.

    What an earlier process that was killed while writing the same file left goes.

    Raises:
        OSError: with the path in it; the file that was there before still is.
    """
    with naming(path):
        if path.exists() and not path.is_file():  # a device isn't to be replaced by a file
            path.write_bytes(content)
            return
        for left in _abandoned(path, "tmp"):
            with contextlib.suppress(OSError):  # Windows: whoever writes it is alive
                left.unlink()
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            try:
                synced_write(temporary, content)
                os.replace(temporary, path)
            except FileNotFoundError:  # who takes over a run directory cleans it up, just now
                synced_write(temporary, content)
                os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder so that it's there whole or not at all; what was there before goes.

    Args:
        path: the folder.
        files: path of each file in it, with slashes -> its content.

    Raises:
        OSError: with the path in it; the folder that was there before still is.
    """
    with naming(path):
        for left in _abandoned(path, "parts"):
            shutil.rmtree(left, ignore_errors=True)
        parts = path.with_name(f".{path.name}.{os.getpid()}.parts")
        new, old = parts / "new", parts / "old"
        try:
            for name, content in files.items():
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                synced_write(new / name, content)
            for folder in {(new / name).parent for name in files}:
                sync_folder(folder)
            if path.exists():
                os.replace(path, old)
            try:
                os.replace(new, path)
            except OSError:
                if old.exists():
                    os.replace(old, path)
                raise
        finally:
            shutil.rmtree(parts, ignore_errors=True)
        sync_folder(path.parent)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError that comes from inside has ``path`` in it: those of writing name no file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def write_all(file: io.FileIO, content: bytes | memoryview) -> None:
    """Write all of it, bytes in a row, to an unbuffered file.

    A buffered one keeps what a full disk had no room for, tries it once more when it is closed, and
    from Python 3.13 on complains, if nobody closes it, of what was said before.
    """
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


def synced_write(path: Path, content: bytes) -> None:
    """Write a file, and return once its content is on the disk."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Return once the folder's entries, such as a file's new name, are on the disk."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)


def remove_leftovers(folder: Path) -> None:
    """Remove what ``atomic_write`` left in a folder when its process was killed.

    For whoever is the only one to write there: nothing tells what is left from what is written.
    """
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def free_bytes(folder: Path) -> int | None:
    """Room on the disk where ``folder`` is or would be; None where the disk doesn't say."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    try:
        total, _, free = shutil.disk_usage(folder)
    except OSError:
        return None
    return free if total else None  # some network file systems say 0 of everything


def new_folder(stem: Path) -> Path:
    """Make a folder that wasn't there: ``stem``, or the first free one of stem-2, stem-3, ...

    Whoever else asks at the same moment gets another one.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    for n in itertools.count(1):
        path = stem if n == 1 else stem.with_name(f"{stem.name}-{n}")
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            sync_folder(path.parent)
            return path
    raise AssertionError("unreachable")


def _abandoned(path: Path, ending: str) -> Iterator[Path]:
    """What killed processes left beside ``path`` while they wrote it."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.{ending}"):
        pid = left.name.split(".")[-2]
        if pid.isdecimal() and not _is_running(int(pid)):
            yield left


def _is_running(pid: int) -> bool:
    """Whether a process with that number, other than this one, is alive here."""
    if os.name == "nt" or pid == os.getpid():  # Windows has no signal 0
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is someone else's
        return True
    return True
