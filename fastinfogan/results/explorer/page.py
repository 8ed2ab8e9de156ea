"""Puts explorer.html together: the template, the style, the programs and a generator."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

from fastinfogan.files import atomic_write
from fastinfogan.paths import expanded, quoted
from fastinfogan.results.explorer.half import halved
from fastinfogan.results.generator_file import load_generator
from fastinfogan.results.run import load_run
from fastinfogan.tell import Tell, on_stderr

_FOLDER = Path(__file__).parent
# In the order in which they use each other. The worker reads files and computes images; the page
# draws latents and shows.
WORKER = ("sha256.js", "format.js", "product.js", "network.js", "worker.js")
PAGE = ("latents.js", "plan.js", "controls.js", "stage.js", "app.js")


def explorer_path(source: Path | str) -> Path:
    """Where a run's, or a generator file's, explorer.html goes unless told otherwise."""
    source = expanded(source)
    return (source if source.is_dir() else source.parent) / "explorer.html"


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
    page = explorer_page(halved(content, trained) or content, name, quoted(Path(source)))
    atomic_write(expanded(output), page)


def explorer_page(content: bytes, name: str, source: str) -> bytes:
    """The page of a generator's file, itself one file.

    Args:
        content: of the generator's file, perhaps with weights in half precision.
        name: what the page calls it.
        source: what a command calls it, quoted for a shell.
    """
    style, script = _source("style.css"), "".join(map(_source, PAGE))
    settings = json.dumps({"name": name, "source": source})
    policy = "; ".join(
        (
            "default-src 'none'",  # nothing is fetched, from nowhere
            f"script-src {_hash(script)} 'wasm-unsafe-eval'",  # product.js makes a module
            f"style-src {_hash(style)}",
            "worker-src blob:",
            "img-src blob: data:",
        )
    )
    parts = {
        "policy": policy,
        "style": style,
        "settings": settings.replace("<", "\\u003c"),  # no text of a name ends the element
        "worker": "".join(map(_source, WORKER)),
        "generator": base64.b64encode(content).decode(),
        "script": script,
    }
    template = (_FOLDER / "page.html").read_text("utf-8")
    page = re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], template)
    return page.encode()


def _source(name: str) -> str:
    """A file of ours as it can stand inside an element of HTML."""
    text = (_FOLDER / name).read_text("utf-8")
    if re.search(r"<!--|</?(script|style)", text, re.IGNORECASE):
        raise AssertionError(f"{name} holds what HTML would take for its own")
    return text


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
