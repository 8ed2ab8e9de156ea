"""The layout: no import circles, kernels that stand alone, no file too long to be read."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Where the folders of the checkout are imported from.
PACKAGES = {"fastinfogan": "fastinfogan", "kernels": "fastinfogan.kernels"}
MOST_LINES = 350


def modules() -> dict[str, Path]:
    """Every module of the installed package, by its full name."""
    found = {}
    for folder, package in PACKAGES.items():
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join([package, *parts]).removesuffix(".__init__")] = path
    return found


def imported(name: str, source: str, is_package: bool) -> set[str]:
    """What a module names in its imports, wherever in the file: modules, and names in modules."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = name.split(".")[: len(name.split(".")) - node.level + is_package]
            origin = [*(base if node.level else []), *([node.module] if node.module else [])]
            found |= {".".join([*origin, alias.name]) for alias in node.names}
    return found


def imports() -> dict[str, set[str]]:
    """Each module's imports of other modules; the packages that these lie in don't count."""
    paths = modules()

    def module_of(name: str) -> str | None:
        while name and name not in paths:  # a name in a module, or somebody else's
            name = name.rpartition(".")[0]
        return name or None

    return {
        module: {
            found
            for name in imported(module, path.read_text(), path.name == "__init__.py")
            if (found := module_of(name)) not in (None, module)
        }
        for module, path in paths.items()
    }


def test_imports_are_found_wherever_they_hide():
    source = """
import numpy as np
from typing import TYPE_CHECKING
from fastinfogan.errors import UserError
if TYPE_CHECKING:
    from . import sibling
def later():
    from ..far import thing
    import fastinfogan.kernels.philox
"""
    expected = {
        "numpy", "typing.TYPE_CHECKING", "fastinfogan.errors.UserError", "fastinfogan.a.sibling",
        "fastinfogan.far.thing", "fastinfogan.kernels.philox",
    }  # fmt: skip
    assert imported("fastinfogan.a.b", source, is_package=False) == expected
    assert imported("fastinfogan.a", source.replace("..far", ".far"), is_package=True) == (
        expected - {"fastinfogan.far.thing"} | {"fastinfogan.a.far.thing"}
    )


def test_no_module_imports_itself_by_way_of_others():
    """In functions and for type checkers neither: such a circle is one as much as any other."""
    graph = imports()
    assert graph["fastinfogan.data"] >= {"fastinfogan.data.registry"}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" is imported by ".join(error.args[1]))


def test_kernels_import_nothing_of_the_trainer():
    strangers = {
        (module, name)
        for module, names in imports().items()
        for name in names
        if module.startswith("fastinfogan.kernels") and not name.startswith("fastinfogan.kernels")
    }
    assert strangers == set()


@pytest.mark.parametrize("folder", ["fastinfogan", "kernels", "bench", "tests"])
def test_no_file_is_too_long_to_be_read_in_one_sitting(folder):
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in (ROOT / folder).rglob("*.py")
    }
    assert lines
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}
