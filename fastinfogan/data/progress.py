"""How far long work has come: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time

from fastinfogan.tell import Lasting, Tell

SECONDS_BEFORE_SHOWN = 1.0
SECONDS_BETWEEN_LINES = 30.0


class ProgressBar:
    """A bar on standard error, shown only on a terminal; use it as a context manager.

    ``total``, ``update``, ``reset`` and ``close`` have the names that pooch calls.

    Args:
        description: what stands before it.
        enabled: False: never shown.
        in_bytes: it counts bytes; otherwise files.
    """

    def __init__(self, description: str, enabled: bool, in_bytes: bool = False) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        # A terminal that closes is no reason to stop.
        file = None if sys.stderr is None else Lasting(sys.stderr)
        console = Console(stderr=True, file=file)  # type: ignore[arg-type]
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn() if in_bytes else MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not (enabled and console.is_interactive),
        )
        self._task = self._progress.add_task(description, total=None)
        self._born = time.monotonic()

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    @property
    def shown(self) -> bool:
        """Whether there is a terminal to show it on."""
        return not self._progress.disable

    def describe(self, description: str) -> None:
        """Change what stands before the bar."""
        self._progress.update(self._task, description=description)

    @property
    def total(self) -> float | None:
        """What there is to do, in bytes or files; None if it isn't known."""
        return self._progress.tasks[0].total

    @total.setter
    def total(self, total: int) -> None:
        # A server that names no length reports 0: rich draws a moving bar for None.
        self._progress.reset(self._task, total=total or None)

    def update(self, amount: int) -> None:
        """So much more is done; shows the bar if it has taken a while."""
        self._progress.advance(self._task, amount)
        if time.monotonic() - self._born > SECONDS_BEFORE_SHOWN:
            self._progress.start()

    def reset(self) -> None:
        """Nothing is done yet."""
        self._progress.update(self._task, completed=0)

    def close(self) -> None:
        """End of one file; the bar goes on with the next and ends with the ``with`` block."""


class ProgressReport:
    """A bar on a terminal; elsewhere a line now and then, with the time left.

    Args:
        description: what is being done.
        total: items to do.
        enabled: False: neither bar nor lines.
        tell: gets the lines.
    """

    def __init__(self, description: str, total: int, enabled: bool, tell: Tell) -> None:
        self._bar = ProgressBar(description, enabled)
        self._bar.total = total
        self._description, self._total = description, total
        self._enabled, self.tell = enabled, tell
        self._done = self._began_at = 0
        self._began = self._told = time.monotonic()

    def __enter__(self) -> ProgressReport:
        self._bar.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.__exit__(*exception)

    def start_at(self, done: int) -> None:
        """So many items were done before."""
        self._done = self._began_at = done
        self._bar.update(done)

    def update(self, items: int) -> None:
        """So many more items are done."""
        self._done += items
        self._bar.update(items)
        now = time.monotonic()
        if self._enabled and not self._bar.shown and now - self._told > SECONDS_BETWEEN_LINES:
            self._told = now
            rate = (self._done - self._began_at) / (now - self._began)
            left = (self._total - self._done) / rate
            pace = f"{rate:,.0f} a second, " if rate >= 1 else ""
            self.tell(
                f"{self._description}: {self._done:,} of {self._total:,}, {pace}{left:.0f} s left"
            )
