"""A run's settings beside those of its preset, and the command that trains it again."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any, NamedTuple

from fastinfogan.config import DataConfig, ModelConfig, TrainConfig, flag_of, resolve, to_dict

# What says where things lie on somebody's computer: no business of who reads a report.
PATHS = ("data.data_dir", "run.out")
_FIRST = ("data.dataset", "model.preset", "run.seed")  # of a command, whatever they are


class Setting(NamedTuple):
    """A setting: its flag, its value, the preset's (or the default), and whether they differ."""

    flag: str
    value: Any
    usual: Any
    differs: bool


def settings(config: TrainConfig) -> list[Setting]:
    """Every setting of a resolved configuration but its paths.

    What it is compared with is what the same dataset and preset give without another option.
    """
    usual = _flat(_usual(config))
    return [
        Setting(flag_of(name), value, usual[name], value != usual[name])
        for name, value in _flat(config).items()
        if name not in PATHS
    ]


def command(config: TrainConfig) -> str:
    """The command that trains such a run; where the images lie is left to its reader."""
    values, usual = _flat(config), _flat(_usual(config))
    words = ["fastinfogan train"]
    for name in (*_FIRST, *(name for name in values if name not in _FIRST)):
        value = values[name]
        if name in PATHS or (value == usual[name] and name not in _FIRST):
            continue
        if isinstance(value, bool) and name != "model.separate_q":
            words.append(flag_of(name) if value else flag_of(name).replace("--", "--no-"))
        else:
            words.append(f"{flag_of(name)} {shlex.quote(str(value))}")
    if config.data.data_dir is not None:
        words.append("--data-dir DIR")
    return " \\\n    ".join(words)


def _usual(config: TrainConfig) -> TrainConfig:
    bare = TrainConfig(DataConfig(config.data.dataset), ModelConfig(config.model.preset))
    return resolve(replace(bare, run=replace(bare.run, seed=config.run.seed)))


def _flat(config: TrainConfig) -> dict[str, Any]:
    return {
        f"{part}.{name}": value
        for part, fields in to_dict(config).items()
        for name, value in fields.items()
    }
