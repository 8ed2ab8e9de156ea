"""A study's folder: its configuration, its seeds, and the run directory of each.

study.json             the configuration and the seeds; then what was found (collect.py)
seed-0/, seed-1/, …    ordinary run directories, with what each printed in log.txt
errors.png             every seed's error over the iterations
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastinfogan.config import (
    RESUMABLE_CHANGES,
    TrainConfig,
    differences,
    from_dict,
    resolve,
    to_dict,
)
from fastinfogan.errors import UserError
from fastinfogan.files import atomic_write
from fastinfogan.results.run import read_summary

FILE = "study.json"
MOST_SEEDS = 10_000
SEEDS = (0, 1, 2, 3, 4)  # of a study that isn't told
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


@dataclass(frozen=True)
class Study:
    """A study that is to be run, or was.

    Attributes:
        folder: where everything is.
        config: resolved; its seed and run directory are those of no run in particular.
        seeds: ascending, none twice.
    """

    folder: Path
    config: TrainConfig
    seeds: tuple[int, ...]

    def run_folder(self, seed: int) -> Path:
        """The run directory of a seed."""
        return self.folder / f"seed-{seed}"

    def run_config(self, seed: int) -> TrainConfig:
        """The configuration of a seed's run."""
        run = replace(self.config.run, seed=seed, out=self.run_folder(seed))
        return replace(self.config, run=run)

    def summary(self, seed: int) -> dict[str, Any] | None:
        """What a seed's finished run found; None if it isn't finished."""
        summary = read_summary(self.run_folder(seed))
        done = summary is not None and summary["iterations"] == self.config.optim.iterations
        return summary if done else None


def parse_seeds(text: str) -> tuple[int, ...]:
    """The seeds in ``20`` (the first twenty), ``0-19`` or ``1,4,10-12``, in ascending order.

    Raises:
        UserError: something else, a seed twice, or too many.
    """
    works = "write a number of seeds (20), a range (0-19) or a list (1,4,10-12)"
    items = [item.strip() for item in text.split(",")]
    matches = [_RANGE.fullmatch(item) for item in items]
    if not all(matches) or any(len(item) > 40 for item in items):
        raise UserError(f"--seeds {text!r}: {works}")
    if len(matches) == 1 and matches[0][2] is None:
        ranges = [(0, int(matches[0][1]) - 1)]
    else:
        ranges = [(int(m[1]), int(m[2] or m[1])) for m in matches]
    if any(last < first or last >= 2**63 for first, last in ranges):
        raise UserError(f"--seeds {text!r}: {works}")
    count = sum(last - first + 1 for first, last in ranges)
    if count > MOST_SEEDS:
        raise UserError(f"--seeds {text!r}: {count} seeds; 1 to {MOST_SEEDS} work")
    seeds = [seed for first, last in ranges for seed in range(first, last + 1)]
    if len(set(seeds)) < len(seeds):
        twice = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise UserError(f"--seeds {text!r}: names {twice} twice")
    return tuple(sorted(seeds))


def best_clustering(summary: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Of a run's summary: the code that fits the labels best, if there are any."""
    clusterings = summary["evaluation"]["clusterings"]
    return min(clusterings, key=lambda c: c["error_hungarian"], default=None)


def open_study(folder: Path, config: TrainConfig, seeds: tuple[int, ...] | None) -> Study:
    """Begin a study, or go on with one; new seeds join those that are there.

    Without ``seeds`` a new one has the first five.

    Raises:
        UserError: the folder holds something else, or a study of another configuration.
    """
    config = resolve(config)
    data = config.data
    if data.data_dir is not None:  # runs are started from elsewhere
        data = replace(data, data_dir=data.data_dir.expanduser().resolve())
    config = replace(config, data=data, run=replace(config.run, seed=0, out=None))
    path = folder / FILE
    if path.exists():
        saved = read_study(folder)
        for name, (before, after) in differences(saved.config, config).items():
            if name not in RESUMABLE_CHANGES or name == "optim.iterations":
                flag = "--" + name.split(".")[1].replace("_", "-")
                raise UserError(
                    f"{flag} {after}: the study in {folder} was started with {before}; leave "
                    f"{flag} out, or begin another study with --out"
                )
        seeds = tuple(sorted({*saved.seeds, *(seeds or ())}))
    elif folder.exists() and any(folder.iterdir()):
        raise UserError(f"--out {folder}: it holds no {FILE}, and isn't empty; choose another")
    study = Study(folder, config, SEEDS if seeds is None else seeds)
    folder.mkdir(parents=True, exist_ok=True)
    write_study(study, read_json(path).get("found", {}) if path.exists() else {})
    return study


def write_study(study: Study, found: dict[str, Any]) -> None:
    """Write study.json."""
    content = {"config": to_dict(study.config), "seeds": list(study.seeds), "found": found}
    atomic_write(study.folder / FILE, json.dumps(content, indent=1).encode())


def read_study(folder: Path) -> Study:
    """The study in a folder.

    Raises:
        UserError: there is none, or its study.json is damaged.
    """
    content = read_json(folder / FILE)
    seeds = content.get("seeds")
    whole = isinstance(seeds, list) and seeds and all(type(seed) is int for seed in seeds)
    if not whole or not isinstance(content.get("config"), dict):
        raise UserError(f"{folder / FILE}: this isn't what a study writes")
    return Study(folder, from_dict(content["config"]), tuple(seeds))


def read_json(path: Path) -> dict[str, Any]:
    """A study.json as it is.

    Raises:
        UserError: it isn't there or can't be read.
    """
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path.parent} is no study: it has no {path.name}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: this isn't what a study writes")
    return content
