"""Metrics: summed up on the device, read when logged, written to metrics.jsonl."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastinfogan.errors import TrainingDiverged, UserError, why
from fastinfogan.files import atomic_write, naming, write_all
from fastinfogan.json_files import parse_json
from fastinfogan.model.latent_spec import LatentSpec
from fastinfogan.model.reference import Losses, ReferenceEngine
from fastinfogan.ranks.alone import ALONE, Ranks
from fastinfogan.results.summary import DISENTANGLEMENT
from fastinfogan.tell import Tell, on_stderr

if TYPE_CHECKING:
    from fastinfogan.engine.loss_scale import LossScale
    from fastinfogan.engine.step import FastEngine

# A row of metrics.jsonl, in what of it is read again.
ROW = {
    "iteration": int, "d_loss": float, "g_loss": float, "mi": float, "mi_per_code": {str: float},
    "evaluation?": {str: {"error_hungarian": float}}, "disentanglement?": DISENTANGLEMENT,
}  # fmt: skip


class Window:
    """Sums of an engine's losses over the iterations since they were last read.

    ``sums`` is float64 on the device: D loss, G loss, NLL per code, and the ``extra`` losses, by
    their names in ``Losses``. Adding never waits for the device; ``means`` does. A NaN or an
    infinity in any iteration shows in the means. ``count``, the number of iterations, is kept by
    the caller: a replayed iteration runs no Python. Each of several ranks sums up its own share's;
    all read together.
    """

    def __init__(
        self,
        spec: LatentSpec,
        device: torch.device,
        extra: Sequence[str] = (),
        ranks: Ranks = ALONE,
    ) -> None:
        self.spec, self._extra, self._ranks = spec, extra, ranks
        numbers = 2 + len(spec.codes) + len(extra)
        self.sums = torch.zeros(numbers, dtype=torch.float64, device=device)
        self.count, self._tallied = 0, False

    def beside(self, engine: FastEngine | ReferenceEngine) -> None:
        """From now on let the engine's losses add themselves to the sums, if they can: on a GPU."""
        from fastinfogan.engine.step import FastEngine  # who reads metrics needs no engine

        alike = isinstance(engine, FastEngine) and engine.objective.informed
        if alike and self.sums.device.type != "cpu":
            engine.tally = self.sums[: 2 + len(self.spec.codes)]
            self._tallied = True

    def add(self, losses: Losses) -> None:
        if self._tallied:
            for place, name in enumerate(self._extra, -len(self._extra)):
                self.sums[place].add_(getattr(losses, name))
            return
        numbers = [losses.d_loss.view(1), losses.g_loss.view(1), losses.nll]
        numbers += [getattr(losses, name).view(1) for name in self._extra]
        self.sums += torch.cat(numbers)

    def reset(self) -> None:
        self.sums.zero_()
        self.count = 0

    def of_all_ranks(self) -> Tensor:
        """``sums``, averaged over the ranks: what one rank's would be."""
        return self._ranks.mean(self.sums.clone())

    def means(self) -> dict[str, Any]:
        """D loss, G loss, L_I per regularised code and in total, H(c), the best reachable: nats."""
        d_loss, g_loss, *nll = (self.of_all_ranks() / self.count).tolist()
        spec = self.spec
        extra = dict(zip(self._extra, nll[len(spec.codes) :], strict=True))
        per_code = {spec.names[i]: spec.codes[i].entropy - nll[i] for i in spec.regularized}
        return {
            "d_loss": d_loss,
            "g_loss": g_loss,
            **extra,
            "mi": sum(per_code.values()),
            "mi_per_code": per_code,
            "ceiling": spec.entropy,
            "best_mi": sum(spec.codes[i].best_mi for i in spec.regularized),
        }


def not_finite(means: dict[str, Any], loss_scale: LossScale | None) -> tuple[str, str] | None:
    """What is NaN or infinite, a mean or all gradients, and what may help; None: nothing is.

    Args:
        means: of a row.
        loss_scale: float16's. It halves whenever a gradient isn't finite, and nothing is learned
            then: a loss that has shrunk, and overflows all the same, has none that are.
    """
    for name in ("d_loss", "g_loss", "mi"):
        if not math.isfinite(means[name]):
            helps = "with lower --lr-g and --lr-d, or a lower --lambda-cont where sigma is learned"
            return f"{name} is {means[name]}", helps
    if loss_scale is not None and (scale := loss_scale.value.item()) < 1.0:
        wrong = f"gradients aren't finite in float16, even of losses scaled by {scale:g}"
        return wrong, "without --amp, or with --amp-dtype bfloat16"
    return None


def diverged(iteration: int, wrong: str, helps: str, kept: Path | None) -> TrainingDiverged:
    """What is said of it.

    Args:
        iteration: that has just ended.
        wrong, helps: what ``not_finite`` found.
        kept: the last checkpoint.
    """
    return TrainingDiverged(
        f"iteration {iteration}: {wrong}; "
        + ("no checkpoint yet" if kept is None else f"the last good checkpoint is {kept}")
        + f"; start a new run {helps}"
    )


def row_shape(spec: LatentSpec | None) -> dict[str, Any]:
    """What of a row is read again; None: of a run with any codes."""
    if spec is None:
        return ROW
    return {**ROW, "mi_per_code": {spec.names[i]: float for i in spec.regularized}}


def read_metrics(
    path: Path, spec: LatentSpec | None = None, tell: Tell = on_stderr
) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl.

    A last line that a crash cut short is left out; so is any other that isn't a row, with a word.

    Args:
        path: the file; no rows if it isn't there.
        spec: of the run; every row must have the L_I of its codes.
        tell: gets a line if there are bad ones.

    Raises:
        UserError: the file can't be read.
    """
    rows, damaged = _parse_rows(_content(path), spec)
    _name_damaged(path, damaged, tell)
    return rows


class MetricsLog:
    """Appends rows to metrics.jsonl.

    Args:
        folder: the run directory.
        keep_until: rows of later iterations are dropped: a session that ended after its last
            checkpoint left them, and the continued run writes them again.
        last_row: the iteration of the last row that was written before; 0: none was.
        spec: of the run.
        tell: gets a line for what is damaged.

    Raises:
        OSError: the file can't be written.
    """

    def __init__(
        self, folder: Path, keep_until: int, last_row: int, spec: LatentSpec, tell: Tell
    ) -> None:
        self._path = folder / "metrics.jsonl"
        content = _content(self._path)
        rows, damaged = _parse_rows(content, spec)
        if damaged:
            _name_damaged(self._path, damaged, tell)
            aside = self._path.with_name(f"{self._path.name}.damaged")
            atomic_write(aside, content)
            tell(f"{self._path.name} as it was is kept as {aside.name}")
        kept = [row for row in rows if row["iteration"] <= keep_until]
        for row, after in pairwise(rows):
            if after["iteration"] <= keep_until < row["iteration"]:
                tell(
                    f"{self._path}: the row of iteration {row['iteration']} stands before that of "
                    f"{after['iteration']}, and is left out"
                )
        if last_row and (not kept or kept[-1]["iteration"] != last_row):
            tell(
                f"{self._path}: the row of iteration {last_row} is missing, perhaps others as well"
            )
        atomic_write(self._path, "".join(f"{json.dumps(row)}\n" for row in kept).encode())
        self._file = open(self._path, "ab", buffering=0)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def write(self, row: dict[str, Any]) -> None:
        """Append a row: the iteration, what ``Window.means`` gives, and ``Clock.lap``."""
        with naming(self._path):
            write_all(self._file, f"{json.dumps(row)}\n".encode())

    def sync(self) -> None:
        """Return once all rows are on the disk."""
        with naming(self._path):
            os.fsync(self._file.fileno())


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise UserError(f"{path} can't be read: {why(error)}") from None


def _parse_rows(
    content: bytes, spec: LatentSpec | None
) -> tuple[list[dict[str, Any]], list[tuple[int, str]]]:
    """The rows, and each line that is none: its number from 1, and why."""
    shape = row_shape(spec)
    rows: list[dict[str, Any]] = []
    damaged: list[tuple[int, str]] = []
    lines = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            if line.strip() or number < len(lines):
                row = parse_json(line, shape)
                if row["iteration"] < 1:
                    raise ValueError(f"iteration is {row['iteration']}")
                rows.append(row)
        except ValueError as error:
            if number < len(lines):  # the last one has no end: it was being written
                damaged.append((number, str(error)))
    return rows, damaged


def _name_damaged(path: Path, damaged: Sequence[tuple[int, str]], tell: Tell) -> None:
    if damaged:
        named = ", ".join(f"{number} ({reason})" for number, reason in damaged[:3])
        more = ", ..." if len(damaged) > 3 else ""
        plural = "s" if len(damaged) > 1 else ""
        tell(f"{path}: {len(damaged)} damaged line{plural} passed over: {named}{more}")
