"""Running a study's seeds: a process each, some at a time, resumable after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fastinfogan.config import TrainConfig, differences, to_dict
from fastinfogan.data.fetch import CACHE_VARIABLE
from fastinfogan.errors import UserError, one_line
from fastinfogan.files import atomic_write
from fastinfogan.json_files import parse_json
from fastinfogan.lock import holder
from fastinfogan.paths import expanded
from fastinfogan.results.run_config import read_config
from fastinfogan.sizes import in_seconds
from fastinfogan.study.folder import Study, best_clustering
from fastinfogan.tell import Tell
from fastinfogan.training.directory import CONFIG, LOCK
from fastinfogan.training.session import PARENT, Signals

POLL = 0.5  # seconds between two looks at the processes


@dataclass
class Job:
    """A seed that is being trained."""

    seed: int
    process: subprocess.Popen
    log: IO[bytes]


def run_seeds(
    study: Study,
    seeds: Sequence[int],
    jobs: int,
    threads: int,
    tell: Tell,
    show: Callable[[int, int], None],
) -> tuple[list[int], signal.Signals | None]:
    """Train every seed that isn't finished; what was begun goes on from its last checkpoint.

    A seed that another process trains is waited for: that of another study in the same folder, or
    one that is still saving for a study which was killed.

    Args:
        study: whose.
        seeds: of its seeds, those to train here.
        jobs: processes at a time.
        threads: of each.
        tell: called with a line for the user.
        show: called with iterations done and iterations in all, of these seeds.

    Returns:
        Seeds whose process failed, and the signal that ended everything early, if one did.
    """
    pool = _Pool(study, deque(seed for seed in seeds if study.summary(seed) is None), threads, tell)
    asked = False  # the processes, to stop
    with Signals() as signals:
        try:
            while pool.waiting or pool.running:
                if signals.received is None:
                    pool.start(jobs)
                time.sleep(POLL)
                if signals.received is not None and not asked:
                    asked = True
                    pool.stop()
                pool.reap(stopping=asked)
                show(*_progress(study, seeds))
        finally:
            if not asked:  # a second SIGTERM would end them before they have saved
                pool.stop()
    return pool.failed, signals.received


class _Pool:
    """The seeds that are still to be trained, and the processes that train some of them."""

    def __init__(self, study: Study, waiting: deque[int], threads: int, tell: Tell) -> None:
        self._study, self._threads, self._tell = study, threads, tell
        self.waiting = waiting
        self.running: list[Job] = []
        self.failed: list[int] = []
        self._elsewhere: set[int] = set()  # seeds that another process trains, or has trained

    def start(self, jobs: int) -> None:
        """Start processes until so many run, or none of the seeds that wait can be trained."""
        for _ in range(len(self.waiting)):
            if len(self.running) == jobs:
                return
            seed = self.waiting.popleft()
            if (owner := self._owner(seed)) is not None:
                self._leave_to(owner, seed)
            elif seed in self._elsewhere and self._study.summary(seed) is not None:
                self._tell(f"seed {seed}: {_result(self._study, seed)}")
            else:
                self._begin(seed)

    def stop(self) -> None:
        """Ask all to save and end, and start no more."""
        self.waiting.clear()
        for job in self.running:
            job.process.send_signal(signal.SIGTERM)

    def reap(self, stopping: bool) -> None:
        """Say what became of the processes that have ended."""
        for job in [job for job in self.running if job.process.poll() is not None]:
            self.running.remove(job)
            job.log.close()
            code, seed = job.process.returncode, job.seed
            if code == 0 or self._study.summary(seed) is not None:  # or another did it
                self._tell(f"seed {seed}: {_result(self._study, seed)}")
            elif stopping:
                continue
            elif (owner := self._owner(seed)) is not None:  # who was a little quicker
                self._leave_to(owner, seed)
            else:
                self.failed.append(seed)
                last = _last_line(self._study.run_folder(seed) / "log.txt")
                self._tell(f"seed {seed}: failed (exit code {code}): {last}")

    def _begin(self, seed: int) -> None:
        try:
            self.running.append(_start(self._study, seed, self._threads))
        except OSError as error:  # a full disk: those that run may still have room
            self.failed.append(seed)
            self._tell(f"seed {seed}: can't be started: {one_line(error)}")

    def _owner(self, seed: int) -> str | None:
        return holder(self._study.run_folder(seed) / LOCK)

    def _leave_to(self, owner: str, seed: int) -> None:
        self.waiting.append(seed)
        if seed not in self._elsewhere:
            self._elsewhere.add(seed)
            self._tell(f"seed {seed}: {owner} is training it; waiting for that")


def _start(study: Study, seed: int, threads: int) -> Job:
    folder = study.run_folder(seed)
    folder.mkdir(exist_ok=True)
    if _takes(study.run_config(seed), folder):
        # A run directory without a checkpoint: resuming begins it.
        content = json.dumps(to_dict(study.run_config(seed)), indent=2).encode()
        atomic_write(folder / CONFIG, content)
    log = open(folder / "log.txt", "ab")  # closed when the process has ended
    process = subprocess.Popen(
        [sys.executable, "-m", "fastinfogan", "train", "--resume", str(folder.resolve())],
        stdout=log,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        cwd=folder,  # not where a folder might be called fastinfogan
        env={**os.environ, **_environment(threads)},
        start_new_session=True,  # Ctrl-C is for the study, which tells the others
    )
    return Job(seed, process, log)


def _takes(config: TrainConfig, folder: Path) -> bool:
    """Whether a seed's run is to have that configuration: a new one, or one with what may change.

    What else is there is left to the run itself, which says what is wrong with it.
    """
    if not (folder / CONFIG).exists():
        return True
    try:
        saved = read_config(folder)
        return differences(saved, config).keys() <= saved.resumable_changes
    except UserError:
        return False


def _environment(threads: int) -> dict[str, str]:
    """What a run has that the study hasn't."""
    changed = {"OMP_NUM_THREADS": str(threads), PARENT: str(os.getpid())}
    if cache := os.environ.get(CACHE_VARIABLE):  # may be relative, and runs start from elsewhere
        changed[CACHE_VARIABLE] = str(expanded(cache).absolute())
    return changed


def _progress(study: Study, seeds: Sequence[int]) -> tuple[int, int]:
    total = study.config.optim.iterations
    done = 0
    for seed in seeds:
        done += _iteration(study.run_folder(seed) / "metrics.jsonl")
    return min(done, total * len(seeds)), total * len(seeds)


def _iteration(path: Path) -> int:
    """The last iteration that a run has written down."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 4096))
            lines = file.read().splitlines()
    except OSError:
        return 0
    for line in reversed(lines):
        try:
            return parse_json(line, {"iteration": int})["iteration"]
        except ValueError:
            continue
    return 0


def _result(study: Study, seed: int) -> str:
    summary = study.summary(seed)
    if summary is None:
        return "ended without a summary"
    best, seconds = best_clustering(summary), f"{in_seconds(summary['seconds'])} s"
    if best is None:
        return f"L_I {summary['evaluation']['totals']['mi']:.3f}, {seconds}"
    return f"error {best['error_hungarian']:.2%}, NMI {best['nmi']:.3f}, {seconds}"


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1][:300] if lines else "nothing printed"
