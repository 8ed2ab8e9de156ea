"""How the program tells its user what isn't an error: a line at a time."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

Tell = Callable[[str], None]

LONGEST = 400  # characters of a word: a path may well be long


def on_stderr(line: str) -> None:
    """What functions do with a line unless they are handed another ``tell``."""
    print(f"fastinfogan: {printable(line)}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """The text in one line that a terminal can show, with words of absurd length cut."""
    visible = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return re.sub(rf"\S{{{LONGEST + 1},}}", _cut, visible)


def _cut(word: re.Match[str]) -> str:
    text = word[0]
    return f"{text[:100]}…({len(text)} characters)…{text[-40:]}"
