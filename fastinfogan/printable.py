"""Any text as one line that a terminal can show: names and files of others may hold anything."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterable

COLUMNS = 100  # of text that goes to a file or a pipe, unless the variable COLUMNS says otherwise
LONGEST = 400  # characters of a word: a path may well be long
BESIDE = 53  # columns that texts beside a head need: addresses are as long


def printable(text: str, most: int | None = None) -> str:
    """Text from anywhere, fit to be printed.

    Args:
        text: whatever a file, a name or a command line holds.
        most: characters; what is longer loses its middle. None: only words of absurd length do.

    Returns:
        The text, with escapes for what a terminal can't print, or would obey.
    """
    if most is None:
        return re.sub(rf"\S{{{LONGEST + 1},}}", _cut, _visible(text))
    return _without_middle(_visible(_without_middle(text, most)), most)


def columns() -> int:
    """How wide a page of text may be: the terminal's columns, or a file's; 40 at least."""
    return max(40, shutil.get_terminal_size((COLUMNS, 24)).columns)


def entry(head: str, texts: Iterable[str]) -> list[str]:
    """An entry of a list: a head, and texts beside it or, where the page is narrow, below.

    Only the head's line begins without a space, so that programs can tell entries apart; and words
    stay whole, so that an address or a path can be copied.

    Args:
        head: in one line; with spaces up to where texts begin.
        texts: each begins a line of its own, but for the first beside the head.

    Returns:
        The lines.
    """
    page, first = columns(), head
    indent = " " * len(head)
    lines = []
    if page - len(head) < BESIDE:
        lines, indent = [head.rstrip()], " " * 4
        first = indent
    for text in texts:
        lines += textwrap.wrap(
            text, page, initial_indent=first, subsequent_indent=indent,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
        first = indent
    return lines


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _without_middle(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most * 2 // 3]} … {text[-most // 3 :]}"


def _cut(word: re.Match[str]) -> str:
    text = word[0]
    return f"{text[:100]}…({len(text)} characters)…{text[-40:]}"
