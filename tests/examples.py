"""The programs in examples/ as modules, and the golden generator with what it must give."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
GOLDEN_FILES = EXAMPLES / "golden"


def example(name: str) -> ModuleType:
    """A Python example, as if it were imported where it lies."""
    place = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert place is not None and place.loader is not None
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


def golden() -> dict[str, Any]:
    """What is in images.json."""
    return json.loads((GOLDEN_FILES / "images.json").read_text())
