"""What the tests of explorer.html share: its programs in node, and the families of generators."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from fastinfogan.results.explorer import page

FAMILIES = ["narrow-mnist", "narrow-celeba", "narrow-chairs-rotation", "mnist-mlp"]
NODE = shutil.which("node")
NO_NODE = "there is no node here: it runs the page's programs"


def in_node(*requests: dict[str, Any]) -> list[dict[str, Any]]:
    """What the page's programs answer to requests (see explorer_in_node.js)."""
    assert NODE is not None
    script = Path(__file__).parent / "explorer_in_node.js"
    done = subprocess.run(
        [NODE, str(script), str(Path(page.__file__).parent)],
        input=json.dumps([{**request, "file": str(request["file"])} for request in requests]),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
