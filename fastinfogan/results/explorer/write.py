"""Writes explorer.html of a run directory, or of a generator's file."""

from __future__ import annotations

from pathlib import Path

from fastinfogan.files import atomic_write
from fastinfogan.paths import expanded, quoted
from fastinfogan.results.explorer.page import explorer_page
from fastinfogan.results.generator_file import load_generator
from fastinfogan.results.leaving import EXPLORER
from fastinfogan.results.run import load_run
from fastinfogan.tell import Tell, on_stderr


def explorer_path(source: Path | str) -> Path:
    """Where a run's, or a generator file's, explorer.html goes unless told otherwise."""
    source = expanded(source)
    return (source if source.is_dir() else source.parent) / EXPLORER


def write_explorer(source: Path | str, output: Path | str, tell: Tell = on_stderr) -> None:
    """Write a page that shows what a generator's codes do.

    Args:
        source: a run directory, or a generator.safetensors.
        output: the file.
        tell: gets a line for each damaged checkpoint that was passed over.

    Raises:
        UserError: the source is neither, or damaged.
        OSError: the page can't be written.
    """
    path = expanded(source)
    if path.is_dir():
        run = load_run(path, tell=tell)
        run.generator.eval()
        content, trained = run.generator_file(), run.trained_generator()
        name = path.resolve().name
    else:
        trained, content = load_generator(path), path.read_bytes()
        name = "/".join(path.resolve().parts[-2:])  # they are all called alike
    # As it was typed: the page shows commands with it.
    page = explorer_page(content, trained, name, quoted(Path(source)))
    atomic_write(expanded(output), page)
