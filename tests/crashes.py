"""Commands that are ended, or find the disk full, at a file-system call that the test chooses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from rank_places import places

HERE = Path(__file__).resolve().parent / "crash"
KILLED = -9


def some_or_all(some: int) -> pytest.MarkDecorator:
    """How many of the calls are tried: a few by default, all of them where there is time."""
    everyone = pytest.param(10**6, marks=pytest.mark.slow, id="all")
    return pytest.mark.parametrize("most", [some, everyone])


@dataclass(frozen=True)
class Ask:
    """A command, and what happens to it.

    Attributes:
        arguments: what is typed after ``fastinfogan``.
        cwd: where.
        below: the folder whose calls count.
        mode: "kill" before the call, "torn" half-way through it, "full" disk from then on, "count".
        at: which call, from 1.
        jobs: whether the calls of a study's runs count as well, each run's by itself.
        environment: variables.
    """

    arguments: tuple[str, ...]
    cwd: Path
    below: Path
    mode: str = "count"
    at: int | None = None
    jobs: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code, what it printed, calls that it made if it wasn't killed."""

    code: int
    calls: int | None
    pid: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


class Crashes:
    """The process that runs them."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process

    def run(self, *asks: Ask) -> list[Ended]:
        """Run commands at the same time, to the end of all."""
        asked = [{**vars(ask), "arguments": list(ask.arguments)} for ask in asks]
        self._process.stdin.write(json.dumps(asked, default=str) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the server is gone"
        answers: list[dict[str, Any]] = json.loads(line)
        return [Ended(**answer) for answer in answers]


def ranks_of(*asks: Ask, size: int | None = None, wait: float = 60) -> list[Ask]:
    """What torchrun would start: a rank for each; ``size`` if some are to stay away."""
    environments = places(size or len(asks), wait)
    return [
        replace(ask, environment={**ask.environment, **place})
        for ask, place in zip(asks, environments)  # noqa: B905  (fewer, where some stay away)
    ]


@contextmanager
def crash_server(folder: Path) -> Iterator[Crashes]:
    """Start it; skips where it can't be had."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not sys.platform.startswith("linux") or compiler is None:
        pytest.skip("needs Linux and a C compiler")
    library = folder / "file_calls.so"
    build = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "file_calls.c")]
    subprocess.run([*build, "-ldl"], check=True)
    process = subprocess.Popen(
        [sys.executable, str(HERE / "server.py"), str(library)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        yield Crashes(process)
    finally:
        process.stdin.close()
        process.wait()


def points(calls: int, most: int) -> list[int]:
    """At most so many numbers from 1 to ``calls``: the middles of as many equal parts."""
    count = min(calls, most)
    return [1 + (2 * i + 1) * calls // (2 * count) for i in range(count)]
