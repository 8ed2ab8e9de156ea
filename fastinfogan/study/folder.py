"""A study's folder: its configuration, its seeds, and the run directory of each.

study.json             the configuration and the seeds; then what was found (collect.py)
seed-0/, seed-1/, …    ordinary run directories, with what each printed in log.txt
errors.png             every seed's error over the iterations, where labels are known
scores.png             every seed's correlations and scores, where factors are known
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from fastinfogan.config import (
    RESUMABLE_CHANGES,
    TrainConfig,
    differences,
    flag_of,
    other_experiment,
    resolve,
    to_dict,
)
from fastinfogan.errors import UserError, range_works, why
from fastinfogan.files import atomic_write, new_folder, remove_leftovers
from fastinfogan.json_files import misfit, parse_json
from fastinfogan.lock import exclusive
from fastinfogan.results.run_config import resolved_config
from fastinfogan.results.summary import read_summary
from fastinfogan.tell import Tell, on_stderr
from fastinfogan.training.directory import LOCK, is_unbegun

FILE = "study.json"
COLLECTING = ".collecting"  # locked by the process that looks at runs
# What study.json keeps of a finished run.
ROW = {
    "numbers": {str: float}, "collapsed": bool, "curve": [[float]], "device": str,
    "curves?": {str: [[float]]}, "versions": {str: str}, "similarity?": {str: float},
}  # fmt: skip
MOST_SEEDS = 10_000
SEEDS = (0, 1, 2, 3, 4)  # of a study that isn't told
_UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
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
        config = self.config
        return read_summary(self.run_folder(seed), config, config.optim.iterations)


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


def open_study(
    folder: Path | None,
    config: TrainConfig,
    seeds: tuple[int, ...] | None,
    tell: Tell = on_stderr,
    only: int | None = None,
) -> Study:
    """Begin a study, or go on with one; new seeds join those that are there.

    Args:
        folder: where; None: a new one in studies/, named after dataset and time.
        config: of all its runs but for seed and directory.
        seeds: to train; None: those that are there, or of a new study the first five.
        tell: gets a line if there is something to say.
        only: the position, among the study's seeds, of the one that is to be trained.

    Raises:
        UserError: there is no such position; the folder can't be made or written (of a finished
            study it needn't), holds something else, or a study of another configuration.
    """
    if folder is not None and (folder / FILE).exists():
        saved = read_study(folder).config
        if (name := other_experiment(saved, config)) is not None:
            raise _another(folder, name, saved, config)
    if only is not None:
        last = len(_seeds_of(folder, seeds)) - 1
        if not 0 <= only <= last:
            raise UserError(f"--only {only}: {range_works(0, last)}")
    config = resolve(config).kept_in(None)  # absolute: runs are started from elsewhere
    config = replace(config, run=replace(config.run, seed=0))
    stem = Path("studies") / f"{config.data.dataset}-{datetime.now():%Y%m%d-%H%M%S}"
    try:
        if folder is None:
            folder = new_folder(stem)
        _refuse_others(folder)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {folder or stem} can't be made: {why(error)}") from None
    try:
        with locked(folder, tell):
            remove_leftovers(folder)
            study = _joined(folder, config, seeds, tell)
            known = (folder / FILE).exists()
            write_study(study, read_json(folder / FILE).get("found", {}) if known else {})
    except OSError as error:
        if not is_unwritable(error):
            raise
        study = _joined(folder, config, seeds, tell)
        if any(study.summary(seed) is None for seed in study.seeds):
            raise UserError(f"--out {folder} can't be written to: {why(error)}") from None
        tell(f"{folder} can't be written to ({why(error)}); all is trained, and only looked at")
    return study


def _joined(folder: Path, config: TrainConfig, seeds: tuple[int, ...] | None, tell: Tell) -> Study:
    """The study that is there with the seeds that are asked for, or a new one."""
    if (folder / FILE).exists():
        saved = read_study(folder)
        _refuse_another(folder, saved.config, config)
        if seeds is not None and {*seeds} < {*saved.seeds}:
            tell(f"the study has seeds {_spoken(saved.seeds)}; --seeds takes none away")
    return Study(folder, config, _seeds_of(folder, seeds))


def _seeds_of(folder: Path | None, seeds: tuple[int, ...] | None) -> tuple[int, ...]:
    """All seeds of the study that is there, or of a new one, with those that are asked for."""
    if folder is None or not (folder / FILE).exists():
        return SEEDS if seeds is None else seeds
    return tuple(sorted({*read_study(folder).seeds, *(seeds or ())}))


def _spoken(seeds: tuple[int, ...]) -> str:
    """Ascending seeds in words: "0 to 2, 5"."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ", ".join(f"{run[0]} to {run[-1]}" if run[1:] else str(run[0]) for run in runs)


def is_unwritable(error: OSError) -> bool:
    """Whether an error says that its folder is there to be read, and not to be written to."""
    return error.errno in _UNWRITABLE


@contextlib.contextmanager
def locked(folder: Path, tell: Tell) -> Iterator[None]:
    """Be the only one to read and write study.json; a batch system starts many at once.

    Args:
        folder: the study's.
        tell: gets a line if another process has to be waited for.
    """
    waiting = f"another process writes {folder / FILE}; waiting for it"
    with exclusive(folder / LOCK, tell, waiting):
        yield


@contextlib.contextmanager
def collecting(folder: Path, tell: Tell) -> Iterator[None]:
    """Be the only one to look at a study's runs for study.json, which others may still write.

    Args:
        folder: the study's.
        tell: gets a line if another process has to be waited for.
    """
    waiting = f"another process looks at the runs in {folder}; waiting for what it finds"
    with exclusive(folder / COLLECTING, tell, waiting):
        yield


def write_study(study: Study, found: dict[str, Any]) -> None:
    """Write study.json; for whoever has it locked."""
    content = {"config": to_dict(study.config), "seeds": list(study.seeds), "found": found}
    atomic_write(study.folder / FILE, json.dumps(content, indent=1).encode())


def read_study(folder: Path) -> Study:
    """The study in a folder.

    Raises:
        UserError: there is none, or its study.json is damaged.
    """
    path = folder / FILE
    content = read_json(path)
    problem = misfit(content, {"seeds": [int], "config": {}})
    seeds = content["seeds"] if problem is None else []
    if not seeds or sorted(set(seeds)) != seeds or not 0 <= seeds[0] <= seeds[-1] < 2**63:
        raise UserError(f"{path}: this isn't what a study writes ({problem or 'its seeds'})")
    return Study(folder, resolved_config(content["config"], path), tuple(seeds))


def known_rows(study: Study, tell: Tell) -> dict[int, dict[str, Any]]:
    """Seed -> what study.json has of it; what is damaged there is left out, with a word."""
    found = read_json(study.folder / FILE).get("found", {})
    seeds = found.get("seeds", {}) if isinstance(found, dict) else None
    if not isinstance(seeds, dict):
        tell(f"{study.folder / FILE}: what was found is damaged; the runs are looked at again")
        return {}
    known = {}
    for seed in study.seeds:
        row = seeds.get(str(seed))
        if row is not None and (problem := misfit(row, ROW, f"seed {seed}")) is not None:
            tell(f"{study.folder / FILE}: {problem}; this run is looked at again")
        elif row is not None:
            known[seed] = row
    return known


def read_json(path: Path) -> dict[str, Any]:
    """A study.json as it is.

    Raises:
        UserError: it isn't there or can't be read.
    """
    try:
        return parse_json(path.read_bytes(), {})
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path.parent} is no study: it has no {path.name}") from None
    except OSError as error:
        raise UserError(f"{path} can't be read: {why(error)}") from None
    except ValueError as error:
        raise UserError(f"{path}: this isn't what a study writes ({error})") from None


def _refuse_others(folder: Path) -> None:
    """Refuse a folder that holds something, but no study, nor what is left of beginning one."""
    if folder.exists() and not is_unbegun(folder, FILE) and not (folder / FILE).exists():
        raise UserError(f"--out {folder}: it holds no {FILE}, and isn't empty; choose another")


def _refuse_another(folder: Path, saved: TrainConfig, wanted: TrainConfig) -> None:
    """Refuse to go on with a study of another configuration."""
    for name in differences(saved, wanted):
        if name not in RESUMABLE_CHANGES or name == "optim.iterations":
            raise _another(folder, name, saved, wanted)


def _another(folder: Path, name: str, saved: TrainConfig, wanted: TrainConfig) -> UserError:
    before, after = differences(saved, wanted)[name]
    flag = flag_of(name)
    return UserError(
        f"{flag} {after}: the study in {folder} was started with {before}; leave "
        f"{flag} out, or begin another study with --out"
    )
