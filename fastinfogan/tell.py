"""How the program tells its user what isn't an error: a line at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable

from fastinfogan.printable import printable

Tell = Callable[[str], None]


def on_stderr(line: str) -> None:
    """What functions do with a line unless they are handed another ``tell``."""
    print(f"fastinfogan: {printable(line)}", file=sys.stderr, flush=True)
