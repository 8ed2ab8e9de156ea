"""Arguments that several commands take, and the values that they may have."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import tyro

from fastinfogan.errors import UserError, range_works, why
from fastinfogan.paths import with_ending

RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
SourcePath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|FILE")]


def within(least: int, most: int, value: int, flag: str) -> int:
    """The value behind ``flag``, if it is neither too small nor absurdly large."""
    if not least <= value <= most:
        raise UserError(f"{flag} {value}: {range_works(least, most)}")
    return value


def output_file(path: Path, *endings: str) -> Path:
    """The value of ``--output``, if a file that is called so can be written there."""
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"--output {path}: name a file in a folder that exists")
    return with_ending(path, *endings)


def output_folder(path: Path) -> Path:
    """The value of ``--output``, if a folder that is called so can be made there."""
    if not path.parent.is_dir() or (path.exists() and not path.is_dir()):
        raise UserError(f"--output {path}: name a folder to make, in one that exists")
    return path


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Inside, a file that can't be written is a mistake in ``--output``, given or not."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path} can't be written: {why(error)}; --output names another place"
        ) from None


def valid_seed(value: int) -> int:
    """The value of ``--seed``, if it names a stream of random numbers."""
    if not 0 <= value < 2**63:
        raise UserError(f"--seed {value}: 0 to 2^63 - 1 works")
    return value
