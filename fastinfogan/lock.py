"""One process at a time: locks that end with their process, and say who holds them."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import warnings
from collections.abc import Iterator
from pathlib import Path

from fastinfogan.tell import Tell

with warnings.catch_warnings():  # where Python has no fcntl, of locks of another kind: they'll do
    warnings.simplefilter("ignore")
    from filelock import FileLock, Timeout

# A look at who holds a lock takes it for a moment, which mustn't keep anybody out.
PATIENCE = 0.2  # seconds
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


class Held(Exception):
    """Another process has the lock; the message says which, as "process 123"."""


@contextlib.contextmanager
def exclusive(path: Path, tell: Tell, waiting: str | None = None) -> Iterator[None]:
    """Hold a lock; a process that ends in whatever way gives its locks back.

    On a file system without locks a line says so, and nothing is held.

    Args:
        path: the lock's file. It is made, and never removed: whoever waits on a removed file
            would hold a lock that nobody else sees. Its owner's name is beside it meanwhile.
        tell: gets a line if there is something to say.
        waiting: said while another process holds it; None: don't wait.

    Raises:
        Held: another process holds it, and ``waiting`` is None.
        OSError: the file can't be made.
    """
    lock, owner = FileLock(path), _owner_file(path)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(_acquired(lock, path, tell, waiting))
        except (NotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise
            tell(f"{path.parent}: this file system has no locks; see that no other run writes here")
        else:
            held.callback(_forget, owner)
            with contextlib.suppress(OSError):  # a full disk: the lock itself is what counts
                owner.write_text(f"{os.getpid()} {platform.node()}")
        yield


def holder(path: Path) -> str | None:
    """Who holds the lock at ``path`` now, as "process 123"; None if nobody does."""
    if not path.exists():
        return None
    try:
        with FileLock(path).acquire(timeout=0):
            return None
    except Timeout:
        return _holder(path)
    except (OSError, NotImplementedError):
        return None


def lock_files(path: Path) -> tuple[Path, Path]:
    """What a lock leaves in its folder."""
    return path, _owner_file(path)


@contextlib.contextmanager
def _acquired(lock: FileLock, path: Path, tell: Tell, waiting: str | None) -> Iterator[None]:
    try:
        lock.acquire(timeout=PATIENCE if waiting is None else 0)
    except Timeout:
        if waiting is None:
            raise Held(_holder(path)) from None
        tell(waiting)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _holder(path: Path) -> str:
    try:
        pid, _, host = _owner_file(path).read_text().partition(" ")
    except (OSError, ValueError):
        return "another process"
    if not pid.isdecimal():
        return "another process"
    return f"process {pid}" if host == platform.node() else f"process {pid} on {host[:64]}"


def _owner_file(path: Path) -> Path:
    return path.with_name(f"{path.name}-owner")


def _forget(owner: Path) -> None:
    with contextlib.suppress(OSError):
        owner.unlink()
