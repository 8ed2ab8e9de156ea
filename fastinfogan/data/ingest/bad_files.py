"""How many unusable files are left out without asking, and what is said when there are more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastinfogan.data.ingest.source import Source
from fastinfogan.errors import UserError
from fastinfogan.printable import printable

# Items that may be unusable before the user has to look at them: a share of all, and in small sets
# a few, though one more only for every so many.
SHARE, FEW, SET_FOR_EACH = 0.01, 5, 10
NAME_SHOWN = 120  # characters: a zip's names may have 65,535
NAMED_IN_ERROR = 3


def too_many(bad: int, count: int, of: int | None = None) -> bool:
    """Whether the user has to look at them.

    Args:
        bad: unusable items of a split.
        count: all of its items.
        of: items of both splits, if there are others.
    """
    of = count if of is None else of
    return bad > max(SHARE * of, _few(of)) or 2 * bad >= count > 0 < bad


def check_bad(
    source: Source,
    bad: Sequence[Sequence[str]],
    count: int,
    of: int | None,
    allow_bad: bool,
    file: Path,
) -> None:
    """Refuse a split with too many unusable items.

    Args:
        source: what they are of.
        bad: (name, reason) of each.
        count, of: as for ``too_many``.
        allow_bad: whether the user wants them left out, however many.
        file: lists them all.

    Raises:
        UserError: they are too many, or all.
    """
    start = f"{source.where}: "
    if bad and len(bad) == count:
        raise UserError(f"{start}none of its {count} {source.what} is usable: {_shown(bad)}")
    if allow_bad or not too_many(len(bad), count, of):
        return
    whole = count if of is None else of
    limit = f"more than {SHARE:.0%} and more than {_few(whole)}"
    if whole > count:
        limit += f" of the {whole} in all splits"
    if 2 * len(bad) >= count:
        limit = "half of them or more"
    raise UserError(
        f"{start}{len(bad)} of its {count} {source.what} are unusable, {limit}; repair or remove "
        f"them, or leave them out with --allow-bad; {file} lists them all: {_shown(bad)}"
    )


def _few(of: int) -> int:
    return min(FEW, max(1, of // SET_FOR_EACH))


def _shown(listed: Sequence[Sequence[str]]) -> str:
    named = [
        f"'{printable(name, NAME_SHOWN)}' ({reason})" for name, reason in listed[:NAMED_IN_ERROR]
    ]
    return ", ".join(named) + (", ..." if len(listed) > NAMED_IN_ERROR else "")
