"""What a session leaves behind while it trains: rows of metrics, pictures, checkpoints, warnings.

Of several ranks the first keeps it. The others only look on: they do what the first's record finds
due, and none of the writing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np

from fastinfogan.config import to_dict
from fastinfogan.data import ImageData
from fastinfogan.files import atomic_write
from fastinfogan.results.changes import save_changes
from fastinfogan.results.run import Run
from fastinfogan.tell import Tell
from fastinfogan.training.board import Board
from fastinfogan.training.checkpoint import remove_stale, set_aside
from fastinfogan.training.collapse import Sign, Watch
from fastinfogan.training.directory import CONFIG
from fastinfogan.training.metrics import MetricsLog
from fastinfogan.training.pictures import drawn
from fastinfogan.training.resume import Standing
from fastinfogan.training.saving import Rhythm, Saver, Work


class Onlooker:
    """The record of a rank that keeps none."""

    signs: tuple[Sign, ...] = ()

    def __enter__(self) -> Onlooker:
        return self

    def __exit__(self, *exception: Any) -> None:
        pass

    def due(self, iteration: int) -> tuple[bool, bool]:
        """Whether it is time for pictures, and for a checkpoint, after so many iterations."""
        return False, False

    def row(self, row: dict[str, Any]) -> None:
        """Keep a row of metrics."""

    def pause(self) -> None:
        """Look at what G makes by now, and return once nothing is being written.

        So there is one copy of what is saved at most.
        """

    def draw(self, iteration: int) -> None:
        """Draw pictures of now, and begin to write them."""

    def show(self, images: Mapping[str, np.ndarray], iteration: int) -> None:
        """Show the last pictures, which lie in the run directory, in TensorBoard, too."""

    def save(self, copy: Callable[[MetricsLog], Work]) -> None:
        """Copy where the run stands now, and begin to make a checkpoint of it.

        Args:
            copy: makes the copy, and gives the work of saving it.
        """

    def look(self) -> None:
        """Raise what went wrong in writing, if anything did."""

    def wait(self) -> None:
        """Return once all is written."""


class Record(Onlooker):
    """The record of the rank that keeps it.

    Args:
        run: whose folder it is kept in.
        data: real images, to compare G's with.
        standing: where the session begins.
        last_row: iteration of the last row of metrics before it; 0: there is none.
        tell: gets a line for what is damaged, and for signs of collapse.
    """

    def __init__(
        self, run: Run, data: ImageData, standing: Standing, last_row: int, tell: Tell
    ) -> None:
        settings, spec = run.config.run, run.config.spec
        _begin(run, data, standing)
        self._run, self._data, self._tell = run, data, tell
        self._log = MetricsLog(run.folder, standing.iteration, last_row, spec, tell)
        self._board = Board(run.folder, standing.iteration, tell)
        self._saver = Saver()
        self._pictures = Rhythm(settings.sample_every)
        self._checkpoints = Rhythm(settings.checkpoint_every)
        self._stack = ExitStack()

    def __enter__(self) -> Record:
        self._stack.enter_context(self._log)
        self._stack.enter_context(self._board)
        self._stack.enter_context(self._saver)
        metrics = self._run.folder / "metrics.jsonl"
        self._watch = Watch(self._run.config, self._data, metrics, self._tell)
        return self

    def __exit__(self, *exception: Any) -> bool:
        return self._stack.__exit__(*exception)

    @property
    def signs(self) -> tuple[Sign, ...]:
        return self._watch.signs

    def due(self, iteration: int) -> tuple[bool, bool]:
        return self._pictures.due(iteration), self._checkpoints.due(iteration)

    def row(self, row: dict[str, Any]) -> None:
        self._log.write(row)
        self._board.write(row)
        self._watch.see(row)

    def pause(self) -> None:
        self._watch.look(self._run.generator)
        self._saver.wait()

    def draw(self, iteration: int) -> None:
        self._saver.start(self._pictures.timed(lambda: drawn(self._run, iteration, self._board)))

    def show(self, images: Mapping[str, np.ndarray], iteration: int) -> None:
        self._board.draw(images, iteration, last=True)

    def save(self, copy: Callable[[MetricsLog], Work]) -> None:
        self._saver.start(self._checkpoints.timed(lambda: copy(self._log)))

    def look(self) -> None:
        self._saver.look()

    def wait(self) -> None:
        self._saver.wait()


def _begin(run: Run, data: ImageData, standing: Standing) -> None:
    """Write into the run directory what it is from, and put aside what is damaged or half done."""
    atomic_write(run.folder / CONFIG, json.dumps(to_dict(run.config), indent=2).encode())
    if run.config.optim.changes_images:
        save_changes(run.folder / "changes.png", data, run.config)
    for path, _ in standing.damaged:
        set_aside(path)
    remove_stale(run.folder / "checkpoints")  # of a session that was killed while saving
