"""Studies whose runs are trained in this process: starting Python for each would take longer."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import pytest
from narrow import narrow_presets
from training_runs import few_digits

from fastinfogan.cli import main
from fastinfogan.study import jobs

SMALL = ("--preset", "narrow-mnist-mlp", "--dataset", "few-digits", "--iterations", "6",
         "--batch-size", "16", "--device", "cpu")  # fmt: skip


class AtOnce:
    """What ``study`` uses of subprocess.Popen: the command has run when it has been started."""

    def __init__(self, command: list[str], stdout: IO[bytes], cwd: Path, **_: object) -> None:
        with pytest.MonkeyPatch.context() as patch, open(stdout.fileno(), "w", closefd=False) as to:
            patch.chdir(cwd)
            with contextlib.redirect_stdout(to), contextlib.redirect_stderr(to):
                self.returncode = main(command[command.index("fastinfogan") + 1 :])

    def poll(self) -> int:
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        raise AssertionError("it has ended")


@contextlib.contextmanager
def in_this_process() -> Iterator[None]:
    """Inside, studies train their runs here, and there are narrow presets and few digits."""
    with pytest.MonkeyPatch.context() as patch, narrow_presets(), few_digits():
        # Of this module alone: a run that ends asks git for its commit.
        stand_in = SimpleNamespace(**{**vars(subprocess), "Popen": AtOnce})
        patch.setattr(jobs, "subprocess", stand_in)
        patch.setattr(jobs, "POLL", 0.0)
        yield
