"""JSON from files that anybody may have changed: parsed, and held against the shape it must have.

A shape is written as the values look: ``int`` (of 64 bits), ``float`` (or a whole number), ``str``,
``bool``, ``None`` or ``Any``; ``[shape]`` is a list, ``{str: shape}`` an object with any keys,
``{"key": shape, "other?": shape}`` one that has these at least, but for those with a question mark,
and a tuple a choice.
"""

from __future__ import annotations

import json
from typing import Any

MOST = 2**63


def parse_json(content: bytes, shape: Any = Any) -> Any:
    """The value that ``content`` is.

    Args:
        content: of a file.
        shape: what the value must look like.

    Raises:
        ValueError: it is no JSON, or of another shape; the message says where, in one line.
    """
    try:
        value = json.loads(content)
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is no text") from None
    except json.JSONDecodeError as error:
        raise ValueError(no_json(error)) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if (problem := misfit(value, shape)) is not None:
        raise ValueError(problem)
    return value


def no_json(error: json.JSONDecodeError) -> str:
    """What to call text that can't be parsed: the parser's words are about its own state."""
    return f"it isn't JSON, at line {error.lineno}"


def misfit(value: Any, shape: Any, where: str = "") -> str | None:
    """What of a JSON value isn't of ``shape``, in words; None if all of it is.

    Args:
        value: as ``json`` reads it.
        shape: what it must look like.
        where: the value's name.
    """
    if shape is Any:
        return None
    wrong = f"{where or 'it'} is {_short(value)}"
    if isinstance(shape, tuple):
        return None if any(misfit(value, one) is None for one in shape) else wrong
    if isinstance(shape, list):
        if not isinstance(value, list):
            return wrong
        parts = [(item, shape[0], f"{where}[{i}]") for i, item in enumerate(value)]
    elif isinstance(shape, dict):
        if not isinstance(value, dict):
            return wrong
        parts = []
        for name in value if shape.keys() == {str} else shape:
            key = name.removesuffix("?")
            if key in value:
                parts.append((value[key], shape.get(name, shape.get(str)), f"{where}.{key}"))
            elif key == name:
                return f"{where or 'it'} has no {key}"
    else:
        return None if _is_plain(value, shape) else wrong
    problems = (misfit(item, one, name.lstrip(".")) for item, one, name in parts)
    return next((problem for problem in problems if problem is not None), None)


def _is_plain(value: Any, shape: Any) -> bool:
    if shape is None or shape is bool:
        return value is None if shape is None else isinstance(value, bool)
    if isinstance(value, int):  # Python's have no limit, and what is computed with them has
        return shape in (int, float) and type(value) is int and -MOST <= value < MOST
    return isinstance(value, shape)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
