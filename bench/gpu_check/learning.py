"""Training on digits to the end: one seed alone by the clock, and a study of several."""

from __future__ import annotations

import json
import time
import zipfile
from typing import Any

from bench.gpu_check.check import PYTHON, Check


def learn(check: Check) -> dict[str, Any]:
    """Train; learning.json and pictures.zip have what comes of it.

    The seed alone comes first: its seconds include compiling the kernels, unless a step before it
    has run them.
    """
    flags = ("--amp",)
    if check.rehearsal:
        flags = ("--preset", "mnist-mlp", "--iterations", 5)
    folder = check.scratch.resolve()
    found: dict[str, Any] = {"flags": list(map(str, flags))}

    def run(*arguments: object) -> float:
        began = time.monotonic()
        # Not in the checkout, where -m would find a fastinfogan without kernels.
        check.command(PYTHON, "-m", "fastinfogan", *arguments, *flags, cwd=folder)
        return round(time.monotonic() - began, 1)

    seconds = run("train", "--sample-every", 0, "--out", folder / "alone")
    summary = json.loads((folder / "alone" / "summary.json").read_text())
    found["alone"] = {"command_s": seconds} | {
        name: summary[name] for name in ("seconds", "evaluation", "last_metrics")
    }
    check.save("learning.json", found)

    study, options = folder / "study", check.options
    seeds = ("--seeds", options.seeds, "--jobs", min(options.jobs, options.seeds))
    found["study_command_s"] = run("study", *seeds, "--sample-every", 0, "--out", study)
    written = json.loads((study / "study.json").read_text())
    found |= {"jobs": options.jobs, "config": written["config"], "study": written["found"]}
    check.save("learning.json", found)
    chosen = study / f"seed-{found['study']['chosen'] or 0}"
    with zipfile.ZipFile(check.out / "pictures.zip", "w") as pictures:
        for path in sorted([*study.glob("*.png"), *chosen.glob("*.png")]):
            pictures.write(path, path.relative_to(study))
    return summary_of(found)


def summary_of(found: dict[str, Any]) -> dict[str, Any]:
    """What the report says of learning.json."""
    return {
        "alone_command_s": found["alone"]["command_s"],
        "alone_training_s": found["alone"]["seconds"],
        "study_command_s": found["study_command_s"],
        "error": found["study"]["statistics"]["error"],
        "chosen": found["study"]["chosen"],
    }
