"""What datasets ask of ``--data-dir``, and the errors that they have in common."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from fastinfogan.errors import UserError, why


def directory_status(
    data_dir: Path | None, expected: str, look: Callable[[Path], str]
) -> tuple[bool, str]:
    """The registry's status of a dataset that needs ``--data-dir``.

    Args:
        data_dir: the user's ``--data-dir``, or None.
        expected: as for ``require_directory``.
        look: says in one line what is there; raises UserError if it won't do.

    Returns:
        Whether it is ready, and one line that says why.
    """
    if data_dir is None:
        return False, f"needs --data-dir: a directory with {expected}"
    try:
        return True, look(data_dir)
    except UserError as error:
        return False, str(error)


def needed_data_dir(dataset: str, data_dir: Path | None, expected: str) -> Path:
    """The folder of a dataset that can't do without one.

    Args:
        dataset: its name in the registry.
        data_dir: the user's ``--data-dir``, or None.
        expected: as for ``require_directory``.

    Raises:
        UserError: the user named none.
    """
    if data_dir is None:
        raise UserError(f"--dataset {dataset} needs --data-dir: a directory with {expected}")
    return data_dir


def spoilt(path: Path, problem: str) -> UserError:
    """The error for a distributor's file in ``--data-dir`` that is not what was published."""
    return UserError(f"--data-dir {str(path.parent)!r}: {path.name} {problem}; fetch it again")


def require_directory(data_dir: Path, expected: str) -> None:
    """Refuse a ``data_dir`` that isn't a directory with something in it.

    Args:
        data_dir: the user's ``--data-dir``.
        expected: what it should hold, in words that complete "a directory with ...".

    Raises:
        UserError: it doesn't exist, is no directory, can't be read or is empty.
    """
    flag = f"--data-dir {str(data_dir)!r}"
    try:
        with os.scandir(data_dir) as entries:
            empty = next(entries, None) is None
    except FileNotFoundError:
        raise UserError(f"{flag} does not exist; name a directory with {expected}") from None
    except NotADirectoryError:
        raise UserError(f"{flag} is not a directory; name a directory with {expected}") from None
    except OSError as error:
        raise UserError(
            f"{flag} cannot be read ({why(error)}); name a readable directory with {expected}"
        ) from None
    if empty:
        raise UserError(f"{flag} is empty; name a directory with {expected}")
