"""Paths as people type them: a leading ~ is a home folder wherever it stands; spaces are quoted."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from fastinfogan.errors import UserError


def quoted(path: Path) -> str:
    """The path as it is typed in a shell, for commands that are to be copied."""
    return shlex.quote(str(path))


def with_ending(path: Path, *endings: str) -> Path:
    """The path of a file to write, if its name ends as what is written should.

    Raises:
        UserError: it ends otherwise; a program that goes by the name would misread the file.
    """
    if path.suffix not in endings:
        works = " and ".join(filter(None, [", ".join(endings[:-1]), endings[-1]]))
        raise UserError(f"--output {path}: names ending in {works} work")
    return path


def expanded(path: Path | str) -> Path:
    """The path, with a leading ``~`` or ``~NAME`` replaced by that home folder.

    A shell does that only at the beginning of a word: not in ``--out=~/x``, nor in a file of
    settings.

    Raises:
        UserError: nobody's home folder is known by that name, or no path can be like this.
    """
    text = os.fspath(path)
    if "\0" in text:
        raise UserError(f"{text!r}: a path has no character NUL in it")
    try:
        return Path(text).expanduser()
    except RuntimeError:  # no HOME and no entry in passwd, or no such user
        name = text.split("/")[0]
        raise UserError(
            f"{text}: the home folder {name} isn't known here; write it out, or ./{text} for a "
            "folder of that name"
        ) from None
