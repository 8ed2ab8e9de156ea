"""Did you mean: the name that was probably meant by one that there isn't."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


def meant(typed: str, names: Iterable[str], aliases: Mapping[str, str] | None = None) -> str | None:
    """The name that comes closest, whatever its case and hyphens.

    Args:
        typed: what there isn't.
        names: what there is.
        aliases: what else it is called, in small letters and digits alone -> a name.

    Returns:
        One of ``names``, or None if nothing comes close.
    """
    known = {_bare(name): name for name in names} | dict(aliases or {})
    word = _bare(typed[:100])  # comparing takes the square of the length
    if word in known:
        return known[word]
    close = difflib.get_close_matches(word, known, n=1)
    return known[close[0]] if close else None


def _bare(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())
