"""What the steps share: commands that end with the check, the log, results files."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine import ROOT

PYTHON = sys.executable
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, from linux/prctl.h


class Failed(Exception):
    """A step has not done what it should; says why."""


class Skipped(Exception):
    """A step has nothing to do here; says why."""


@dataclass
class Check:
    """What the steps share.

    Attributes:
        options: of the command line.
        scratch: a folder for what nobody keeps.
        gpu: its name; None if there is none, or nobody has looked yet.
        deadline: when the current step's time is over, by ``time.monotonic``.
    """

    options: argparse.Namespace
    scratch: Path
    gpu: str | None = None
    deadline: float = 0.0

    @property
    def out(self) -> Path:
        """The results folder."""
        return self.options.out

    @property
    def rehearsal(self) -> bool:
        """Whether everything is to be tiny."""
        return self.options.rehearse

    def command(self, *arguments: object, cwd: Path = ROOT) -> str:
        """Run a command until the step's deadline, and add what it prints to report.txt.

        Args:
            arguments: the command.
            cwd: the folder that it runs in.

        Returns:
            What it printed.

        Raises:
            Failed: its exit code isn't 0.
            subprocess.TimeoutExpired: it took too long, and was killed with all it had started.
        """
        command = [str(argument) for argument in arguments]
        with (self.out / "report.txt").open("a+", errors="replace") as log:
            log.write(f"\n$ {' '.join(command)}\n")
            log.flush()
            begins = log.seek(0, os.SEEK_END)
            process = subprocess.Popen(
                command, cwd=cwd, env=_environment(), stdout=log, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_ends_with_parent,
            )  # fmt: skip
            try:
                code = process.wait(max(1.0, self.deadline - time.monotonic()))
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise
            log.seek(begins)
            printed = log.read()
        if code != 0:
            last = (printed.strip().splitlines() or ["nothing printed"])[-1]
            raise Failed(f"exit code {code}: {last[:500]}")
        return printed

    def save(self, name: str, content: Any) -> None:
        """Write JSON into the results folder, whole or not at all."""
        path = self.out / name
        path.with_suffix(".new").write_text(json.dumps(content, indent=1) + "\n")
        path.with_suffix(".new").replace(path)

    def load(self, name: str) -> Any:
        """JSON from the results folder; an empty dict if it isn't there."""
        path = self.out / name
        return json.loads(path.read_text()) if path.exists() else {}


def _environment() -> dict[str, str]:
    """As it is, with a PYTHONPATH that means the same in every folder."""
    places = os.environ.get("PYTHONPATH")
    if not places:
        return dict(os.environ)
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(map(os.path.abspath, places.split(os.pathsep)))
    }


def _ends_with_parent() -> None:
    """In the child: it is killed when this process ends, however that ends."""
    with contextlib.suppress(OSError, AttributeError):  # Linux alone has it
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
