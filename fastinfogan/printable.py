"""Any text as one line that a terminal can show: names of files may hold anything."""

from __future__ import annotations

import re

LONGEST = 400  # characters of a word: a path may well be long


def printable(text: str) -> str:
    """The text in one line that a terminal can show, with words of absurd length cut."""
    visible = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return re.sub(rf"\S{{{LONGEST + 1},}}", _cut, visible)


def _cut(word: re.Match[str]) -> str:
    text = word[0]
    return f"{text[:100]}…({len(text)} characters)…{text[-40:]}"
