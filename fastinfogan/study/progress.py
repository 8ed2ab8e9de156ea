"""What a person sees while a study trains: a bar over all seeds on a terminal, lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fastinfogan.printable import printable

SECONDS_BETWEEN_LINES = 60.0  # where there is no terminal


class StudyProgress:
    """Counts iterations over all seeds."""

    def __init__(self, bar: Progress | None) -> None:
        self._bar = bar
        self._task = None if bar is None else bar.add_task("iterations of all seeds", total=None)
        self._shown = time.monotonic()

    def line(self, text: str) -> None:
        """A message that stays."""
        if self._bar is None:
            print(printable(text), flush=True)
        else:
            self._bar.console.print(printable(text), markup=False)

    def show(self, done: int, total: int) -> None:
        """How far it is: iterations."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)
        elif time.monotonic() - self._shown > SECONDS_BETWEEN_LINES:
            self._shown = time.monotonic()
            print(f"{done:,} of {total:,} iterations", flush=True)


@contextlib.contextmanager
def shown_progress() -> Iterator[StudyProgress]:
    """The display that suits standard output."""
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        yield StudyProgress(None)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("iterations"), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        yield StudyProgress(bar)
