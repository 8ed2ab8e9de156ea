"""What a result was measured on: hardware, versions, commit."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent


def describe(device: torch.device) -> dict[str, Any]:
    """Everything that a number needs beside it to be worth something."""
    status = _output("git", "status", "--porcelain", "--untracked-files=no", "--", *_CODE)
    told = os.environ.get("BENCH_COMMIT")
    return {
        "hardware": hardware(device),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in ("torch", "triton", "fastinfogan")},
            "cuda": torch.version.cuda,
            "gcc": _output("gcc", "-dumpfullversion"),
        },
        # A checkout that was carried without its .git: whoever carried it says which it is.
        "commit": told or _output("git", "rev-parse", "HEAD"),
        "dirty": None if told or status is None else bool(status),  # None: nobody knows
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


# What decides a number: a change of a document doesn't make it dirty.
_CODE = ("fastinfogan", "kernels", "bench", "CMakeLists.txt", "pyproject.toml")


# What keeps torch and our kernels, oneDNN and MKL to narrower instructions than the CPU has.
NARROWING = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")


def hardware(device: torch.device) -> dict[str, Any]:
    """The CPU, and the GPU if that is the device."""
    found: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu_code": torch.backends.cpu.get_cpu_capability(),
    }
    if kept := {name: os.environ[name] for name in NARROWING if name in os.environ}:
        found["kept_to"] = kept
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "gpu": properties.name,
            "gpu_bytes": properties.total_memory,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "driver": _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        }
    return found


def slug(hardware: dict[str, Any]) -> str:
    """A file name for the device: lower case, digits, dots and hyphens."""
    name = hardware.get("gpu") or f"{hardware['cpu']} {hardware['threads']} threads"
    name = re.sub(r"\((?:r|tm|c)\)", "", name.lower())
    return re.sub(r"[^a-z0-9.]+", "-", name).strip("-.")


def cpu_file(kind: str, hardware: dict[str, Any]) -> str:
    """A results file's name, by the instructions too: virtual machines' processors share names."""
    return f"{kind}-{slug(hardware)}-{hardware['cpu_code'].lower()}.json"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _output(*command: str) -> str | None:
    """What a command prints; None if it isn't there or fails."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
