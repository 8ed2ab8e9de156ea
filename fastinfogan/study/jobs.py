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
from typing import IO, Any

from fastinfogan.config import to_dict
from fastinfogan.files import atomic_write
from fastinfogan.study.folder import Study, best_clustering
from fastinfogan.tell import Tell

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
    waiting = deque(seed for seed in seeds if study.summary(seed) is None)
    running: list[Job] = []
    failed: list[int] = []
    stopped: list[signal.Signals] = []
    asked = False  # the processes, to stop

    def stop(number: int, frame: Any) -> None:
        stopped.append(signal.Signals(number))

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while waiting or running:
            while waiting and len(running) < jobs and not stopped:
                running.append(_start(study, waiting.popleft(), threads))
            time.sleep(POLL)
            if stopped and not asked:
                asked = True
                waiting.clear()
                for job in running:
                    job.process.send_signal(signal.SIGTERM)  # it saves, and ends
            for job in [job for job in running if job.process.poll() is not None]:
                running.remove(job)
                job.log.close()
                if job.process.returncode == 0:
                    tell(f"seed {job.seed}: {_result(study, job.seed)}")
                elif not stopped:
                    failed.append(job.seed)
                    last = _last_line(study.run_folder(job.seed) / "log.txt")
                    tell(f"seed {job.seed}: failed (exit code {job.process.returncode}): {last}")
            show(*_progress(study, seeds))
    finally:
        for job in running:
            job.process.kill()
            job.process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
    return failed, stopped[0] if stopped else None


def _start(study: Study, seed: int, threads: int) -> Job:
    folder = study.run_folder(seed)
    folder.mkdir(exist_ok=True)
    if not (folder / "config.json").exists():
        # A run directory without a checkpoint: resuming begins it.
        content = json.dumps(to_dict(study.run_config(seed)), indent=2).encode()
        atomic_write(folder / "config.json", content)
    log = open(folder / "log.txt", "ab")  # closed when the process has ended
    process = subprocess.Popen(
        [sys.executable, "-m", "fastinfogan", "train", "--resume", str(folder.resolve())],
        stdout=log,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        cwd=folder,  # not where a folder might be called fastinfogan
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        start_new_session=True,  # Ctrl-C is for the study, which tells the others
    )
    return Job(seed, process, log)


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
            return int(json.loads(line)["iteration"])
        except (ValueError, KeyError, TypeError):
            continue
    return 0


def _result(study: Study, seed: int) -> str:
    summary = study.summary(seed)
    if summary is None:
        return "ended without a summary"
    best, seconds = best_clustering(summary), f"{summary['seconds']:.0f} s"
    if best is None:
        return f"L_I {summary['evaluation']['totals']['mi']:.3f}, {seconds}"
    return f"error {best['error_hungarian']:.2%}, NMI {best['nmi']:.3f}, {seconds}"


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1][:300] if lines else "nothing printed"
