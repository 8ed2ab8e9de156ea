"""Puts explorer.html together: the template, the style, the programs and a generator."""

from __future__ import annotations

import base64
from pathlib import Path

from fastinfogan.results.explorer.packed import packed
from fastinfogan.results.generator import TrainedGenerator
from fastinfogan.results.web.one_file import as_json, one_file, shared_script, source

_FOLDER = Path(__file__).parent
# In the order in which they use each other. The worker reads files and computes images; the page
# draws latents and shows.
WORKER = ("sha256.js", "format.js", "product.js", "network.js", "worker.js")
PAGE = ("latents.js", "plan.js", "controls.js", "stage.js", "app.js")


def explorer_page(content: bytes, trained: TrainedGenerator, name: str, command: str) -> bytes:
    """The page of a generator's file, itself one file.

    Args:
        content: of the generator.safetensors.
        trained: the generator in it.
        name: what the page calls it.
        command: what a command calls it, quoted for a shell.
    """
    inside, precision = packed(content, trained)
    parts = {
        "settings": as_json({"name": name, "source": command, "precision": precision}),
        "worker": "".join(source(_FOLDER / file) for file in WORKER),
        "generator": base64.b64encode(inside).decode(),
    }
    allowed = {
        "script-src": "'wasm-unsafe-eval'",  # product.js makes a module
        "worker-src": "blob:",
        "img-src": "blob: data:",
    }
    script = shared_script() + "".join(source(_FOLDER / file) for file in PAGE)
    return one_file(_FOLDER, script, allowed, parts).encode()
