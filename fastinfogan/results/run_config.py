"""A run's config.json, read back. Needs no torch: what is no run is refused at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastinfogan.config import TrainConfig, from_dict, resolve
from fastinfogan.errors import UserError, one_line
from fastinfogan.json_files import parse_json


def read_config(folder: Path) -> TrainConfig:
    """The configuration that a run directory was made with.

    Raises:
        UserError: this is no run directory, or its config.json is damaged.
    """
    path = folder / "config.json"
    try:
        tree = parse_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder} is no run directory: {_instead(folder)}") from None
    except OSError as error:
        raise UserError(f"{path} can't be read: {one_line(error)}") from None
    except ValueError as error:
        raise UserError(
            f"{path} can't be read: {one_line(error)}; put back a copy, or start a new run"
        ) from None
    return resolved_config(tree, path)


def _instead(folder: Path) -> str:
    """What something is that is taken for a run directory, and what works with it."""
    if folder.is_file() and folder.suffix == ".safetensors":
        return "a generator alone has no Q; sample, traverse and explore take it"
    if folder.is_dir():
        try:
            inside = [path.parent for path in folder.glob("*/config.json")]
        except OSError:
            inside = []
        if inside:
            what = "a study" if (folder / "study.json").exists() else "a folder with runs"
            return f"it is {what}; name a run inside, such as {min(inside)}"
    return "it has no config.json"


def resolved_config(tree: Any, path: Path) -> TrainConfig:
    """The resolved configuration that a JSON file holds.

    Args:
        tree: as ``to_dict`` gave it.
        path: of the file, for the errors.

    Raises:
        UserError: it is none.
    """
    config = from_dict(tree, path.name)
    try:
        whole = resolve(config) == config
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if not whole:
        raise UserError(f"{path}: this isn't the resolved configuration of a run")
    return config
