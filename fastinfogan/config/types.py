"""What the fields of a configuration may hold: read from JSON, or made in Python."""

from __future__ import annotations

import dataclasses
import numbers
import types
import typing
from pathlib import Path
from typing import Any, Literal

from fastinfogan.errors import UserError

_WORKS = {
    int: "a whole number works",
    float: "a number works",
    bool: "True and False work",
    str: "a text works",
    Path: "a path works",
}


def holds(hint: Any, value: Any) -> bool:
    """Whether a field with this annotation may hold the value."""
    if typing.get_origin(hint) is Literal:
        return type(value) is str and value in typing.get_args(hint)
    return type(value) in (type(Path()) if kind is Path else kind for kind in kinds(hint))


def kinds(hint: Any) -> tuple[Any, ...]:
    """The types that an annotation joins, or the one that it is."""
    joined = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if joined else (hint,)


def named(hint: Any) -> str:
    """An annotation in a message: ``int | None``, however it was written."""
    names = (kind.__name__ if isinstance(kind, type) else str(kind) for kind in kinds(hint))
    return " | ".join("None" if name == "NoneType" else name for name in names)


def well_typed(config: Any) -> Any:
    """A tree of configurations whose fields hold what they are annotated with.

    On a command line nothing else can be typed; in Python an objective of "InfoGAN" would train the
    baseline, for it isn't "infogan". Whole numbers stand for numbers, and numpy's for Python's.

    Raises:
        UserError: a field holds something else, naming its flag.
    """
    found = {}
    for name, hint in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, hint):
                raise UserError(f"{name}={value!r}: an instance of {hint.__name__} works")
            found[name] = well_typed(value)
            continue
        value = _plain(hint, value)
        if not holds(hint, value):
            raise UserError(f"--{name.replace('_', '-')} {value!r}: {_works(hint)}")
        found[name] = value
    return dataclasses.replace(config, **found)


def _plain(hint: Any, value: Any) -> Any:
    """A number as Python has it, where the field holds such."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    if int in kinds(hint) and isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if float in kinds(hint) else value


def _works(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return f"{', '.join(typing.get_args(hint))} work"
    return next(_WORKS[kind] for kind in kinds(hint) if kind in _WORKS)
