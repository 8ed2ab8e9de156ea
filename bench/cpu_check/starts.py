"""How long the command takes to begin: to its first iteration, to help, to a refusal."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.harness import spread
from bench.processes import seconds_to_first_iteration, users_environment

ANSWERS = {
    "help": ("--help",),
    "help_of_train": ("train", "--help"),
    "refused_word": ("train", "--batch-size", "many"),
    "refused_value": ("train", "--batch-size", "0"),
}


def measure(rounds: int) -> dict[str, Any]:
    """Seconds, in turns.

    Args:
        rounds: how often; a first one, which reads files from the disk, doesn't count.

    Returns:
        The spread of each, and of the seconds to the first iteration.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ("first_iteration", *ANSWERS)}
    with tempfile.TemporaryDirectory() as caches:
        for counts in (False, *[True] * rounds):
            took = {
                "first_iteration": seconds_to_first_iteration(["--device", "cpu"], Path(caches))
            }
            took |= {name: _seconds(words, caches) for name, words in ANSWERS.items()}
            for name in seconds if counts else ():
                seconds[name].append(took[name])
    return {name: spread(values) for name, values in seconds.items()}


def _seconds(words: tuple[str, ...], folder: str) -> float:
    """Seconds of a command that answers and ends; not in the checkout, see ``processes``."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "fastinfogan", *words]
    subprocess.run(command, cwd=folder, env=users_environment(), capture_output=True)
    return time.perf_counter() - began
