"""A study's numbers for the repository, with what they were measured on.

    python -m bench.study studies/digits

writes bench/results/study-NAME-DEVICE.json. Run it on the machine, and at the commit, that trained
the study: neither is known afterwards.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import machine
from bench.harness import RESULTS
from fastinfogan.config import to_dict
from fastinfogan.device import pick_device
from fastinfogan.errors import UserError
from fastinfogan.files import atomic_write
from fastinfogan.study.collect import collect
from fastinfogan.study.folder import read_study
from fastinfogan.study.report import table


def main(arguments: Sequence[str] | None = None) -> int:
    """Collect a study and write its numbers. Exit code 2 if there is none."""
    parser = argparse.ArgumentParser(prog="python -m bench.study", description=__doc__)
    parser.add_argument("study", type=Path, metavar="FOLDER")
    parser.add_argument("--commit", help="that trained it; default: the checkout's")
    options = parser.parse_args(arguments)
    try:
        study = read_study(options.study)
        found = collect(study)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    on = machine.describe(pick_device(study.config.run.device))
    if options.commit:
        on |= {"commit": options.commit, "dirty": False}
    config = to_dict(study.config)
    config["data"]["data_dir"] = config["run"]["out"] = None  # paths are this machine's
    content = {"on": on, "config": config, **found}
    path = RESULTS / f"study-{options.study.name}-{machine.slug(on['hardware'])}.json"
    atomic_write(path, (json.dumps(content, indent=1) + "\n").encode())
    print(table(study, found))
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
