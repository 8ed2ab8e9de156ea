"""The one way to the compiled module ``fastinfogan.kernels._native``: imports torch first."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType

MODULE = "fastinfogan.kernels._native"


@functools.cache
def find() -> tuple[ModuleType | None, str]:
    """The compiled module and "", or None and one line that says why it isn't there."""
    try:
        # The module uses the OpenMP library that torch has loaded: see native/module.cpp.
        importlib.import_module("torch")
    except Exception as error:
        return None, f"torch does not import: {_one_line(error)}"
    try:
        return importlib.import_module(MODULE), ""
    except ModuleNotFoundError:
        return None, "not built; pip install . builds it"
    except ImportError as error:
        return None, f"built, but does not load: {_one_line(error)}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
