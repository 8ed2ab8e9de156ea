"""All that docs/performance.md says of one kind of CPU, in one command.

    python -m bench.cpu_check            # some ten minutes; writes bench/results/cpu-NAME.json
    python -m bench.cpu_check --tables   # docs and README from all such files; measures nothing

Iterations of five presets are measured as python -m bench.training does: a process for each
subject, losses checked before anything is timed, and then rounds in which all take turns. Then the
command's starts: to the first iteration, --help, and mistakes. The file says what it was measured
on. It takes a quiet machine: where another process has a core, every thread waits for the slowest.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import torch

from bench import harness, machine, training
from bench.cpu_check import report, starts
from bench.subjects import TUNED
from fastinfogan.files import atomic_write
from fastinfogan.kernels.native_module import find

PRESETS = ("mnist", "celeba", "faces-azimuth", "chairs-rotation", "mnist-mlp")
SUBJECTS = (TUNED, f"{TUNED}-amp", "reference", "ours", "ours-amp")
ROOT = Path(__file__).parents[2]
DOCS, README = ROOT / "docs" / "performance.md", ROOT / "README.md"


def pages() -> dict[Path, str]:
    """What the committed files say on each page."""
    files = report.committed()
    return {DOCS: report.tables(files), README: report.in_short(files)}


def _instructions(native: ModuleType) -> dict[str, bool]:
    """What the processor has, and what of it the kernels were built to use."""
    return native.cpu_features() | {
        # Whether conv multiplies bfloat16 itself.
        "half_products": native.KERNELS and native.HALF_PRODUCTS,
        "openmp": native.OPENMP,  # else the kernels run on one thread
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, or write the tables.

    Returns:
        The exit code: 1 if a subject failed.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.cpu_check", description=__doc__)
    parser.add_argument("--presets", nargs="*", default=PRESETS, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=11, help="of an iteration, and of a start")
    parser.add_argument("--out", type=Path, metavar="FILE")
    parser.add_argument("--tables", action="store_true", help="only write the tables")
    parser.add_argument("--tiny", action="store_true", help="narrow networks, 8 images: a check")
    options = parser.parse_args(arguments)
    if options.tables:
        for path, text in pages().items():
            atomic_write(path, report.between_marks(path.read_text(), text).encode())
        return 0
    on = machine.describe(torch.device("cpu"))
    path = options.out or harness.RESULTS / machine.cpu_file("cpu", on["hardware"])
    code = training.main([
        "--device", "cpu", "--presets", *options.presets, "--only", *SUBJECTS, "--rounds",
        str(options.rounds), "--out", str(path), *["--tiny"] * options.tiny,
    ])  # fmt: skip
    found = harness.read_results(path)
    native, _ = find()
    found["instructions"] = {} if native is None else _instructions(native)
    found["starts"] = {"on": on} | starts.measure(1 if options.tiny else options.rounds)
    harness.write_results(path, found)
    print(report.tables([found]))
    return code


if __name__ == "__main__":
    sys.exit(main())
