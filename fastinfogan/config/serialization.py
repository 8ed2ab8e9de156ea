"""Reading a configuration back from JSON, and how two configurations differ."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastinfogan.config.presets import FAMILIES, PRESETS
from fastinfogan.config.tree import TrainConfig, to_dict
from fastinfogan.config.types import holds, kinds, named
from fastinfogan.errors import UserError
from fastinfogan.json_files import misfit


def from_dict(tree: dict[str, Any], where: str = "config.json") -> TrainConfig:
    """The configuration that ``to_dict`` wrote, in this version or an earlier one.

    Args:
        tree: JSON values.
        where: the file that they are from, for the errors.

    Raises:
        UserError: a field is missing, unknown, or of the wrong type, or networks have changed.
    """
    config = _build(TrainConfig, _brought_up(tree), where)
    if config.model.preset in FAMILIES and config.data.image_size is None:
        raise UserError(
            f"{where}: it is from before preset {config.model.preset} was built for the images' "
            "size, with networks that this version hasn't; train anew"
        )
    return config


def differences(saved: TrainConfig, wanted: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Dotted field -> (saved, wanted) wherever two configurations differ."""
    before, after = flattened(saved), flattened(wanted)
    return {key: (before[key], after[key]) for key in before if before[key] != after[key]}


def flattened(config: TrainConfig) -> dict[str, Any]:
    """Dotted field -> its value as JSON has it."""
    return dict(_flatten(to_dict(config)))


def other_experiment(saved: TrainConfig, wanted: TrainConfig) -> str | None:
    """The dotted field by which an unresolved configuration can't be that of ``saved``.

    These two decide what all others may be: what is wrong with the others is said after this.
    """
    for part, name in (("data", "dataset"), ("model", "preset")):
        before, after = (getattr(getattr(config, part), name) for config in (saved, wanted))
        if after not in (None, before):
            return f"{part}.{name}"
    return None


def flag_of(name: str) -> str:
    """The option that sets a dotted field, as it is typed."""
    return "--" + name.split(".")[1].replace("_", "-")


def _brought_up(tree: Any) -> Any:
    """The tree; what didn't exist yet when it was written is off."""
    try:
        preset = PRESETS[tree["model"]["preset"]]
        for part, new in (  # what came together, in its order
            ("optim", {"consistency": 0.0, "augment": False, "jitter": preset.jitter}),
            ("run", {"evaluate_every": 0}),
            ("optim", {"average": 0}),
            ("data", {"stretch": None}),
            ("run", {"sync_batchnorm": True}),
            ("optim", {"contrastive": 0.0, "gap_until": 0}),
            ("run", {"reduce_dtype": "float32"}),
            ("optim", {"orthogonal": 0.0, "decay": 0.0}),
        ):
            if not new.keys() & tree[part].keys():
                tree = {**tree, part: {**tree[part], **new}}
        optim = tree["optim"]
        if optim["contrastive"] == 0 and misfit(optim["gap_until"], int) is None:
            tree = {**tree, "optim": {**optim, "gap_until": 0}}  # was taken, and had no effect
        if tree["run"]["compile"] is None:  # was decided by the run's length
            tree = {**tree, "run": {**tree["run"], "compile": False}}
        if "resident" in tree["run"]:
            run = dict(tree["run"])
            feed = {"auto": "auto", "yes": "resident", "no": "streamed"}[run.pop("resident")]
            tree = {**tree, "run": {"feed": feed, **run}}
    except (LookupError, TypeError, AttributeError):
        pass  # _build says what is wrong
    return tree


def _flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _build(kind: type, tree: Any, where: str) -> Any:
    hints = typing.get_type_hints(kind)
    if not isinstance(tree, dict) or set(tree) != set(hints):
        odd = sorted(set(tree) ^ set(hints)) if isinstance(tree, dict) else [type(tree).__name__]
        raise UserError(f"{where}: fields {', '.join(odd)} are missing or unknown to this version")
    values = {}
    for key, hint in hints.items():
        value = tree[key]
        if dataclasses.is_dataclass(hint):
            values[key] = _build(hint, value, f"{where}: {key}")
            continue
        allowed = kinds(hint)
        if Path in allowed and isinstance(value, str):
            value = Path(value)
        elif float in allowed and misfit(value, int) is None:
            value = float(value)
        if not holds(hint, value):
            raise UserError(f"{where}: {key} is {value!r}, which is not a {named(hint)}")
        values[key] = value
    return kind(**values)
