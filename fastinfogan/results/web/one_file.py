"""A page that is one file: style and programs in it, and a policy that fetches nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SHARED = Path(__file__).parent


def one_file(
    folder: Path, script: str, allowed: Mapping[str, str], parts: Mapping[str, str]
) -> str:
    """Fill a folder's ``page.html``.

    Args:
        folder: has page.html, with {{NAME}} where a part goes, and style.css.
        script: the page's program.
        allowed: what the Content-Security-Policy allows beside this very style and program:
            directive -> sources.
        parts: name -> HTML, as it is to stand there.
    """
    style = source(_SHARED / "look.css") + source(folder / "style.css")
    directives = {
        "default-src": "'none'",  # nothing is fetched, from nowhere
        "script-src": _hash(script),
        "style-src": _hash(style),
    }
    for name, sources in allowed.items():
        directives[name] = " ".join(filter(None, (directives.get(name), sources)))
    parts = {
        **parts,
        "policy": "; ".join(f"{name} {sources}" for name, sources in directives.items()),
        "style": style,
        "script": script,
    }
    template = (folder / "page.html").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], template)


def source(path: Path) -> str:
    """A file of ours as it can stand inside an element of HTML."""
    text = path.read_text("utf-8")
    if re.search(r"<!--|</?(script|style)", text, re.IGNORECASE):
        raise AssertionError(f"{path.name} holds what HTML would take for its own")
    return text


def shared_script() -> str:
    """What every page's program begins with."""
    return source(_SHARED / "look.js")


def as_json(value: Any) -> str:
    """A value as JSON that can stand in a script element: no text in it ends that."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
