"""What a person sees while a run trains: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from fastinfogan.printable import printable

PLAIN_EVERY = 10.0  # seconds between plain lines, so that a log file stays readable


def open_status(total: int, done: int) -> Status:
    """The display that suits standard output."""
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    return LiveStatus(console, total, done) if console.is_terminal else Status(total, done)


def describe(row: dict[str, Any]) -> str:
    """Losses, L_I against the best reachable, and speed, from a row of metrics."""
    return (
        f"D {row['d_loss']:.2f}  G {row['g_loss']:.2f}  L_I {row['mi']:.3f} of "
        f"{row['best_mi']:.3f}  {row['images_per_s']:,.0f} images/s"
    )


class Status:
    """Plain lines for logs and pipes.

    Args:
        total: iterations of the whole run.
        done: iterations done before this session.
    """

    def __init__(self, total: int, done: int) -> None:
        self._total, self._shown = total, time.monotonic()
        self._begun = (done, self._shown)
        self._warm: tuple[int, float] | None = None  # the same after the first stretch

    def __enter__(self) -> Status:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def line(self, text: str) -> None:
        """A message that stays."""
        print(printable(text), flush=True)

    def advance(self, iteration: int) -> None:
        """One more iteration is done, or on a GPU several in a row.

        The first stretch is left out of the pace as soon as there is another: in it memory is
        found, and kernels compile.
        """
        if self._warm is None:
            self._warm = (iteration, time.monotonic())

    def metrics(self, row: dict[str, Any]) -> None:
        """New means; the last ones are always shown."""
        now, iteration = time.monotonic(), row["iteration"]
        if now - self._shown < PLAIN_EVERY and iteration < self._total:
            return
        self._shown = now
        warm = self._warm is not None and iteration > self._warm[0]
        first, since = self._warm if warm else self._begun
        pace = (now - since) / max(1, iteration - first)
        left = _duration(pace * (self._total - iteration))
        print(f"{iteration:>7}/{self._total}  {describe(row)}  {left} left", flush=True)


class LiveStatus(Status):
    """A bar with the newest metrics, redrawn in place."""

    def __init__(self, console: Console, total: int, done: int) -> None:
        super().__init__(total, done)
        self._progress = Progress(
            BarColumn(bar_width=20),  # the only column that gives way on a narrow terminal
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[metrics]}"),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            TextColumn("left"),
            console=console,
        )
        self._task = self._progress.add_task("train", total=total, completed=done, metrics="")

    def __enter__(self) -> LiveStatus:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def line(self, text: str) -> None:
        """See ``Status``, like the other two."""
        self._progress.console.print(printable(text), markup=False)

    def advance(self, iteration: int) -> None:
        self._progress.update(self._task, completed=iteration)

    def metrics(self, row: dict[str, Any]) -> None:
        self._progress.update(self._task, metrics=describe(row))


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
