"""Predicts every preset's iteration, and holds it against what is committed.

python -m bench.predict              # the tables; fails if launches or ratios grew
python -m bench.predict --write      # brings the results file and docs/performance.md up to date
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch

from bench.compile_gate import require_compiler
from bench.harness import RESULTS
from bench.predict import h100, ours, report
from bench.predict.iteration import count
from fastinfogan.config import preset_config
from fastinfogan.files import atomic_write

PRESETS = ("mnist", "celeba", "chairs-rotation", "digits")
COMMITTED = RESULTS / "predicted-h100.json"
DOCS = Path(__file__).parents[2] / "docs" / "performance.md"
BEGIN, END = "<!-- predicted: begin -->\n", "<!-- predicted: end -->\n"


def predict(preset: str) -> report.Found:
    """An iteration with ``--amp``, alternating, not compiled: see ``report.summary``."""
    found = count(preset, torch.bfloat16, update="alternating")
    works = found.library + [ours.work_of(launch) for launch in found.ours]
    return report.summary(works, preset_config(preset).optim.batch_size)


def committed() -> dict[str, report.Found]:
    """The presets in the results file; none if there is no such file."""
    return json.loads(COMMITTED.read_text())["presets"] if COMMITTED.exists() else {}


def with_tables(page: str, presets: dict[str, report.Found]) -> str:
    """A page of documentation with these presets' tables between its marks."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}{report.tables(presets)}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict; exit status 1 if something grew, 2 if kernels can't be compiled here."""
    parser = argparse.ArgumentParser(prog="python -m bench.predict", description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep what is found")
    options = parser.parse_args(arguments)
    try:
        require_compiler("predict")
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found = {preset: predict(preset) for preset in PRESETS}
    print(report.tables(found))
    before = committed()
    lines = [
        line
        for preset in found
        if preset in before
        for line in report.faults(preset, found[preset], before[preset])
    ]
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    if lines:
        return 1
    if options.write:
        atomic_write(COMMITTED, _content(found).encode())
        atomic_write(DOCS, with_tables(DOCS.read_text(), found).encode())
    return 0


def _content(found: dict[str, report.Found]) -> str:
    """The results file, with a line for each launch."""
    content = {
        "what": "predicted, not measured: see bench/predict",
        "gpu": f"H100 SXM5: {h100.SMS} SMs at {h100.CLOCK / 1e9:g} GHz, "
        f"{h100.BYTES_PER_S / 1e12:g} TB/s",
        "how": "--amp (bfloat16), alternating, resident images, not compiled",
        "torch": torch.__version__,
        "triton": version("triton"),
        "presets": found,
    }
    text = json.dumps(content, indent=1)
    return re.sub(r"\{[^{}]*\}", lambda match: " ".join(match[0].split()), text) + "\n"


if __name__ == "__main__":
    sys.exit(main())
