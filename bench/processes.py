"""Whole processes: a subject alone in one, and the command ``fastinfogan train`` end to end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import machine
from bench.harness import spread


class TooLate(RuntimeError):
    """A subject hadn't begun in time."""


class Apart:
    """A subject in a process of its own (``one_subject``), which waits between its turns.

    Compilers, caches, workspaces of libraries and settings of torch's are then those of one subject
    alone, as for whoever trains with it.

    Args:
        preset: its name.
        subject: its name.
        arguments: more of one_subject's.
        within: seconds that it may take to begin; None: as long as it likes.

    Attributes:
        began: what ``one_subject.begin`` found.

    Raises:
        RuntimeError: the process ended; with the last line that it printed.
        TooLate: it hadn't begun in time, and was ended.
    """

    def __init__(
        self, preset: str, subject: str, arguments: Sequence[str], within: float | None = None
    ) -> None:
        self._said = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.one_subject", preset, subject, *arguments],
            cwd=machine.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said,
            text=True,
        )  # fmt: skip
        if not select.select([self._process.stdout], [], [], within)[0]:
            self.close()
            raise TooLate(f"it hadn't begun after {within:.0f} s")
        self.began: dict[str, Any] = self._answer()

    def timed(self, count: int) -> tuple[float, float]:
        """Run ``count`` iterations there; see ``runner.timed``."""
        with contextlib.suppress(BrokenPipeError):  # it has ended, and the answer says why
            self._process.stdin.write(f"{count}\n")
            self._process.stdin.flush()
        seconds, host = self._answer()
        return seconds, host

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def _answer(self) -> Any:
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        code = self._process.wait()
        self._said.seek(0)
        last = (self._said.read().strip().splitlines() or ["no message"])[-1]
        self.close()
        raise RuntimeError(f"its process ended with exit code {code}: {last[:500]}")


def users_environment() -> dict[str, str]:
    """This process's environment; but Python keeps what it compiles, as it does where it may."""
    kept = dict(os.environ)
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept


def seconds_to_first_iteration(flags: list[str], caches: Path) -> float:
    """Seconds from the command ``fastinfogan train`` to its first line in metrics.jsonl.

    Args:
        flags: of the command.
        caches: where compilers keep what they made.
    """
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "run")
        command = [sys.executable, "-m", "fastinfogan", "train", "--iterations", "1"]
        environment = {
            **users_environment(),
            "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
            "TRITON_CACHE_DIR": str(caches / "triton"),
        }
        began = time.perf_counter()
        # Not in the checkout: there `-m` would find a fastinfogan without kernels.
        process = subprocess.Popen(
            [*command, "--out", str(out), *flags], cwd=scratch, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            while True:
                with contextlib.suppress(OSError):
                    if (out / "metrics.jsonl").stat().st_size:
                        return time.perf_counter() - began
                if process.poll() not in (None, 0):
                    raise RuntimeError(process.stdout.read()[-500:])
                time.sleep(0.002)
        finally:
            process.kill()
            process.wait()


def measure_command(flags: list[str], repeats: int) -> dict[str, list[float]]:
    """Seconds to the first iteration: with empty compile caches (cold), and after that (warm)."""
    with tempfile.TemporaryDirectory() as caches:
        times = [seconds_to_first_iteration(flags, Path(caches)) for _ in range(1 + repeats)]
    return {"cold_s": times[:1], "warm_s": times[1:]}


def measure_training(iterations: int, flags: list[str]) -> dict[str, float]:
    """Seconds of ``fastinfogan train`` on digits, and its images a second between log lines."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "run")
        every = max(1, iterations // 10)
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "fastinfogan", "train", "--iterations", str(iterations),
             "--out", str(out), "--log-every", str(every), "--sample-every", "0", *flags],
            cwd=scratch, check=True, capture_output=True,
        )  # fmt: skip
        whole = time.perf_counter() - began
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    speeds = [row["images_per_s"] for row in rows]
    return {
        "iterations": iterations,
        "command_s": whole,
        # The first interval has the warm-up in it (and, on a GPU, compilation and recording).
        "images_per_s": spread(speeds[1:] or speeds),
    }
