"""What a run ran with: versions, the commit, the machine."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

_CHECKOUT = Path(__file__).parents[2]


def versions() -> dict[str, str]:
    """Of this package, PyTorch and Python; and the commit, where this is a checkout."""
    found = {
        "fastinfogan": version("fastinfogan"),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    commit = _commit()
    return found if commit is None else {**found, "commit": commit}


def machine(device: torch.device) -> dict[str, str]:
    """The system, the processor and its threads, and for a GPU what drives it."""
    found = {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "threads": str(torch.get_num_threads()),
    }
    if device.type == "cuda":
        found["CUDA"] = str(torch.version.cuda)
    return found


def _commit() -> str | None:
    """Of this package's own repository, with -dirty where files have changed since.

    A package that is installed may well lie in a repository of somebody else's.
    """
    if not all((_CHECKOUT / name).exists() for name in (".git", "pyproject.toml", "kernels")):
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=_CHECKOUT, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
