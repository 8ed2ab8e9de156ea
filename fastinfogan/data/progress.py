"""A progress bar on standard error, shown only on a terminal and only after a second of work."""

from __future__ import annotations

import time
from types import TracebackType

SECONDS_BEFORE_SHOWN = 1.0


class ProgressBar:
    """Counts files, or bytes with ``in_bytes``; use it as a context manager.

    ``total``, ``update``, ``reset`` and ``close`` are what pooch asks of a progress bar.
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

        console = Console(stderr=True)
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    @property
    def shown(self) -> bool:
        """Whether there is a terminal to show it on."""
        return not self._progress.disable

    def describe(self, description: str) -> None:
        self._progress.update(self._task, description=description)

    @property
    def total(self) -> float | None:
        return self._progress.tasks[0].total

    @total.setter
    def total(self, total: int) -> None:
        # A server that names no length reports 0: rich draws a moving bar for None.
        self._progress.reset(self._task, total=total or None)

    def update(self, amount: int) -> None:
        self._progress.advance(self._task, amount)
        if time.monotonic() - self._born > SECONDS_BEFORE_SHOWN:
            self._progress.start()

    def reset(self) -> None:
        self._progress.update(self._task, completed=0)

    def close(self) -> None:
        """End of one file; the bar goes on with the next and ends with the ``with`` block."""
