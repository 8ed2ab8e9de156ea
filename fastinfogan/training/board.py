"""TensorBoard's files, where it is installed: a run's numbers and pictures."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastinfogan.results.grid import to_pillow
from fastinfogan.tell import Tell

# The files stay small, whatever is drawn: a picture is left out until the run is so many times as
# long as at the last one, and one of more pixels is made smaller.
SPREAD, MOST_PIXELS = 1.5, 2**20


class Board:
    """Shows rows and pictures in TensorBoard.

    It is loaded when there is something to show: training doesn't wait for its imports to begin.

    Args:
        folder: the run directory.
        keep_until: what was shown of later iterations is withdrawn (see ``MetricsLog``).
        tell: gets a line if TensorBoard doesn't work.
    """

    def __init__(self, folder: Path, keep_until: int, tell: Tell) -> None:
        self._folder, self._keep_until, self._tell = folder / "tensorboard", keep_until, tell
        self._writer: Any = None
        self._opened, self._opening = False, threading.Lock()
        self._drawn_at = 0

    def __enter__(self) -> Board:
        self._report_thread, threading.excepthook = threading.excepthook, self._thread_failed
        return self

    def __exit__(self, *exception: object) -> None:
        with self._guarded():
            if self._writer is not None:
                self._writer.close()
        threading.excepthook = self._report_thread

    def write(self, row: dict[str, Any]) -> None:
        """Show the numbers of a row of metrics."""
        writer = self._open()
        with self._guarded():
            for name, value in _scalars(row) if writer is not None else ():
                writer.add_scalar(name, value, row["iteration"])

    def draw(self, images: Mapping[str, np.ndarray], iteration: int, last: bool = False) -> None:
        """Show pictures; from any one thread at a time.

        Args:
            images: name -> uint8 (height, width, C), C = 1 or 3.
            iteration: after which they were drawn.
            last: show them however few iterations lie between these and those before.
        """
        writer = self._open()
        if writer is None or not (last or iteration >= SPREAD * self._drawn_at):
            return
        self._drawn_at = iteration
        with self._guarded():
            for name, image in images.items():
                writer.add_image(name, _reduced(image), iteration, dataformats="HWC")

    def _open(self) -> Any:
        """TensorBoard's writer; None: it isn't installed, or was given up, by any thread."""
        with self._opening:
            if not self._opened:
                self._opened = True
                with self._guarded(), contextlib.suppress(ImportError):
                    from torch.utils.tensorboard import SummaryWriter

                    self._writer = SummaryWriter(self._folder, purge_step=self._keep_until + 1)
            return self._writer

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Whatever is wrong with TensorBoard, it is no reason not to train."""
        try:
            yield
        except Exception as error:
            self._writer = None
            self._tell(f"TensorBoard is installed but doesn't work: {error}; going on without")

    def _thread_failed(self, failure: threading.ExceptHookArgs) -> None:
        """TensorBoard's thread keeps its exception for the next call: no traceback now."""
        if not type(failure.thread).__module__.startswith("tensorboard."):
            self._report_thread(failure)


def _reduced(image: np.ndarray) -> np.ndarray:
    """A picture at a whole fraction of its size: with about ``MOST_PIXELS`` at most."""
    height, width, channels = image.shape
    factor = math.ceil(math.sqrt(height * width / MOST_PIXELS))
    if factor == 1:
        return image
    reduced = np.asarray(to_pillow(image).reduce(factor))
    return reduced.reshape(*reduced.shape[:2], channels)


def _scalars(row: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """What is shown of a row."""
    for name in ("d_loss", "g_loss", "mi", "images_per_s"):
        yield name, row[name]
    for code, numbers in row.get("evaluation", {}).items():
        for name, value in numbers.items():
            yield f"evaluation/{code}/{name}", value
    if (factors := row.get("disentanglement")) is not None:
        for name, value in factors["scores"].items():
            if value is not None:
                yield f"disentanglement/{name}", value
        for one in factors["correlations"]:
            yield f"disentanglement/correlation/{one['factor']}", one["value"]
    for name, value in row["mi_per_code"].items():
        yield f"mi/{name}", value
