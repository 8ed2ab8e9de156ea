"""Metrics: summed up on the device, read when logged, written to metrics.jsonl and TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastinfogan.files import atomic_write
from fastinfogan.model.latent_spec import LatentSpec
from fastinfogan.model.reference import Losses
from fastinfogan.tell import Tell


class Window:
    """Sums of an engine's losses over the iterations since they were last read.

    ``sums`` is float64 on the device: D loss, G loss, NLL per code, and with ``consistency``
    L_cons. Adding never waits for the device; ``means`` does. A NaN or an infinity in any iteration
    shows in the means. ``count``, the number of iterations, is kept by the caller: a replayed
    iteration runs no Python.
    """

    def __init__(self, spec: LatentSpec, device: torch.device, consistency: bool = False) -> None:
        self.spec, self._consistency = spec, consistency
        numbers = 2 + len(spec.codes) + consistency
        self.sums = torch.zeros(numbers, dtype=torch.float64, device=device)
        self.count = 0

    def add(self, losses: Losses) -> None:
        numbers = [losses.d_loss.view(1), losses.g_loss.view(1), losses.nll]
        if losses.consistency is not None:
            numbers.append(losses.consistency.view(1))
        self.sums += torch.cat(numbers)

    def reset(self) -> None:
        self.sums.zero_()
        self.count = 0

    def restore(self, sums: Tensor, count: int) -> None:
        """Go on from what a checkpoint holds."""
        self.sums.copy_(sums)
        self.count = count

    def means(self) -> dict[str, Any]:
        """D loss, G loss, L_I per regularised code and in total, H(c), the best reachable: nats."""
        d_loss, g_loss, *nll = (self.sums / self.count).tolist()
        spec = self.spec
        consistency = {"consistency": nll.pop()} if self._consistency else {}
        per_code = {spec.names[i]: spec.codes[i].entropy - nll[i] for i in spec.regularized}
        return {
            "d_loss": d_loss,
            "g_loss": g_loss,
            **consistency,
            "mi": sum(per_code.values()),
            "mi_per_code": per_code,
            "ceiling": spec.entropy,
            "best_mi": sum(spec.codes[i].best_mi for i in spec.regularized),
        }


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; a last line cut short by a crash is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


class MetricsLog:
    """Appends rows to metrics.jsonl, and to TensorBoard's files where it is installed.

    Args:
        folder: the run directory.
        keep_until: rows of later iterations are dropped: a session that ended after its last
            checkpoint left them, and the continued run writes them again.
        tell: gets a line if TensorBoard is installed and doesn't work.
    """

    def __init__(self, folder: Path, keep_until: int, tell: Tell) -> None:
        path = folder / "metrics.jsonl"
        rows = [row for row in read_metrics(path) if row["iteration"] <= keep_until]
        atomic_write(path, "".join(f"{json.dumps(row)}\n" for row in rows).encode())
        self._file = open(path, "a", buffering=1)
        self._board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(folder / "tensorboard", purge_step=keep_until + 1)
        except ImportError:
            pass
        except Exception as error:  # whatever it is, it is no reason not to train
            tell(f"TensorBoard is installed but doesn't work: {error}")

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()

    def write(self, row: dict[str, Any]) -> None:
        """Append a row: the iteration, what ``Window.means`` gives, and ``Clock.lap``."""
        self._file.write(f"{json.dumps(row)}\n")
        if self._board is None:
            return
        for name in ("d_loss", "g_loss", "mi", "images_per_s"):
            self._board.add_scalar(name, row[name], row["iteration"])
        for code, numbers in row.get("evaluation", {}).items():
            for name, value in numbers.items():
                self._board.add_scalar(f"evaluation/{code}/{name}", value, row["iteration"])
        for name, value in row["mi_per_code"].items():
            self._board.add_scalar(f"mi/{name}", value, row["iteration"])
