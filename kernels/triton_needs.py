"""Whether Triton is here, and what it needs beside itself: known without importing it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path

INSTALLED = importlib.util.find_spec("triton") is not None

# TRITON_INTERPRET=1 at import makes kernels run in numpy, on CPU tensors: for tests.
INTERPRETED = (
    INSTALLED
    and "TRITON_INTERPRET" in os.environ
    and importlib.import_module("triton").knobs.runtime.interpret
)


def power_of_two(n: int) -> int:
    """The smallest power of two that is ``n`` or more: Triton's blocks have no other sizes."""
    return 1 << (n - 1).bit_length()


def find_missing() -> str:
    """What Triton needs on a GPU and doesn't find, in one phrase; "" if it has all.

    It builds what calls its kernels from C, while a program runs.
    """
    if not INSTALLED:
        return "Triton is not installed"
    named = os.environ.get("CC")
    if named is not None and shutil.which(named) is None:
        return f"CC is {named!r}, which is no command"
    if named is None and not (shutil.which("gcc") or shutil.which("clang")):
        return "there is no C compiler (gcc, clang, or what CC names)"
    return missing_headers()


def missing_headers() -> str:
    """A phrase if Python's headers aren't there, else ""."""
    scheme = sysconfig.get_default_scheme()
    # Debian's own scheme names a folder that never has them; Triton asks for this one, too.
    scheme = "posix_prefix" if scheme == "posix_local" else scheme
    folder = sysconfig.get_paths(scheme)["include"]
    if Path(folder, "Python.h").exists():
        return ""
    return f"Python's headers are not installed (no Python.h in {folder})"


MISSING = find_missing()
