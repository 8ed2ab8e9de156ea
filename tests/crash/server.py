"""Runs commands in forks of itself: libraries are imported once, and each fork can be ended.

Started with ``file_calls.c`` preloaded. A line of JSON on standard input asks for commands that
run at the same time; a line of JSON on standard output says how each ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

MODES = {"count": 0, "kill": 1, "torn": 2, "full": 3}


class Forked:
    """What ``study`` uses of subprocess.Popen, without starting Python anew."""

    returncode: int | None = None

    def __init__(
        self, command: list[str], stdout: Any, cwd: Path, env: dict[str, str], **_: Any
    ) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            if not ARMED_JOBS:
                SHIM.arm(b"", 0, -1)
            os.setsid()
            os.chdir(cwd)
            os.environ.update(env)
            for number in (1, 2):
                os.dup2(stdout.fileno(), number)
            leave(command[command.index("fastinfogan") + 1 :])

    def poll(self) -> int | None:
        if self.returncode is None:
            self._take(os.waitpid(self.pid, os.WNOHANG))
        return self.returncode

    def wait(self) -> int:
        if self.returncode is None:
            self._take(os.waitpid(self.pid, 0))
        return self.returncode

    def _take(self, ended: tuple[int, int]) -> None:
        if ended[0]:
            self.returncode = os.waitstatus_to_exitcode(ended[1])

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        os.kill(self.pid, 9)


def leave(arguments: list[str], counted: Path | None = None) -> None:
    """Run a command, and end this process as the command line does."""
    from fastinfogan.cli import main

    code: Any = 1
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    except BaseException:
        import traceback

        traceback.print_exc()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        if counted is not None:
            counted.write_text(str(SHIM.counted()))
    os._exit(code)


def slow_down(what: str) -> None:
    """A disk that keeps a rank waiting, at each of these: longer than ranks wait in training."""
    from fastinfogan.data.feeds.mapped import MappedRows
    from fastinfogan.training import trainer

    places = {
        "ingest": (trainer, "read_images"), "load": (trainer, "open_feed"),
        "read": (MappedRows, "read"), "save": (trainer, "save_checkpoint"),
    }  # fmt: skip
    for owner, name in (places[word] for word in what.split()):
        setattr(owner, name, late(getattr(owner, name)))


def late(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, whose first call takes longer."""
    waits = [float(os.environ["SLOW_SECONDS"])]

    def slowly(*given: Any) -> Any:
        if waits:
            time.sleep(waits.pop())
        return call(*given)

    return slowly


def hurry() -> None:
    """Runs and studies leave the same files with less work: pictures of nothing, fewer samples."""
    from fastinfogan.files import atomic_write
    from fastinfogan.results import leaving
    from fastinfogan.results.run import Run
    from fastinfogan.study import curves

    def drawn(_: Any, path: Path) -> bool:
        atomic_write(path, b"")
        return True

    leaving.plot_curves = lambda metrics, spec, path: drawn(metrics, path)
    curves.plot_errors = drawn
    Run.evaluate = functools.partialmethod(Run.evaluate, samples=500)


def start(ask: dict[str, Any], folder: Path) -> int:
    """Fork, and let the fork do what is asked for."""
    handles = [os.open(folder / name, os.O_WRONLY | os.O_CREAT) for name in ("out", "err")]
    pid = os.fork()
    if pid:
        for handle in handles:
            os.close(handle)
        return pid
    global ARMED_JOBS
    ARMED_JOBS = ask["jobs"]
    for number, handle in enumerate(handles, 1):
        os.dup2(handle, number)
    os.chdir(ask["cwd"])
    os.environ.update(ask["environment"])
    slow_down(os.environ.get("SLOW", ""))
    at = -1 if ask["at"] is None else ask["at"]
    SHIM.arm(os.fsencode(ask["below"]), MODES[ask["mode"]], at)
    leave(ask["arguments"], folder / "counted")
    raise AssertionError("unreachable")


def serve() -> None:
    for line in sys.stdin:
        answers = []
        with contextlib.ExitStack() as stack:
            started = []
            for ask in json.loads(line):
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                started.append((start(ask, folder), folder))
            for pid, folder in started:
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                out, err = ((folder / name).read_text() for name in ("out", "err"))
                counted = folder / "counted"
                calls = int(counted.read_text()) if counted.exists() else None
                answers.append({"code": code, "calls": calls, "pid": pid, "out": out, "err": err})
        print(json.dumps(answers), flush=True)


if __name__ == "__main__":
    SHIM = ctypes.CDLL(sys.argv[1])
    SHIM.arm.argtypes = (ctypes.c_char_p, ctypes.c_int, ctypes.c_long)
    SHIM.counted.restype = ctypes.c_long
    ARMED_JOBS = False
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

    import scipy.optimize
    import scipy.stats  # noqa: F401
    import sklearn.metrics  # noqa: F401
    import torch
    from narrow import narrow_presets
    from training_runs import few_digits

    import fastinfogan.study.report
    import fastinfogan.training.trainer  # noqa: F401
    from fastinfogan.data.ingest import dali
    from fastinfogan.study import jobs

    with contextlib.suppress(ImportError):
        import torch.utils.tensorboard

    torch.set_num_threads(1)
    dali.available = lambda: False  # importing it would take longer than the work
    # Of this module alone: a run that ends asks git for its commit.
    jobs.subprocess = SimpleNamespace(**{**vars(subprocess), "Popen": Forked})
    jobs.POLL = 0.02
    hurry()
    with narrow_presets(), few_digits():
        serve()
