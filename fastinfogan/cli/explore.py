"""``explore``: a generator as a page to play with, written and opened."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Optional

import tyro

from fastinfogan.cli.arguments import SourcePath, output_file, writing
from fastinfogan.config import unset_as


@dataclass(frozen=True)
class Explore:
    """Write a page with the generator in it, where you move its codes, and open it."""

    source: SourcePath
    """Run directory, or a generator.safetensors."""
    output: Annotated[Optional[Path], unset_as("FILE", "explorer.html beside the generator")] = None
    """HTML file to write."""
    no_open: tyro.conf.FlagCreatePairsOff[bool] = False
    """Only write it."""

    def __call__(self) -> int:
        from fastinfogan.results.explorer.write import explorer_path, write_explorer

        output = self.output or explorer_path(self.source)
        if self.output is not None:
            output_file(self.output, ".html")
        with writing(output):
            write_explorer(self.source, output)
        print(output, flush=True)
        if not self.no_open and _has_desktop():
            import webbrowser

            webbrowser.open(output.absolute().as_uri())
        return 0


def _has_desktop() -> bool:
    """Whether a browser would be a window: without one, a terminal's browser takes the terminal."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
