"""The one way to Triton, which only Linux has: elsewhere kernels are defined but can't run."""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

try:
    import triton
    from triton import language as tl
except ImportError:
    triton = tl = None

INSTALLED = triton is not None

# TRITON_INTERPRET=1 at import makes kernels run in numpy, on CPU tensors: for tests.
INTERPRETED = INSTALLED and triton.knobs.runtime.interpret


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

Argument = torch.Tensor | tuple[torch.Tensor, ...] | float | None  # of a kernel


def jit(function: Callable[..., None]) -> Any:
    """``triton.jit``, or the function itself where there is no Triton to run it."""
    return triton.jit(function) if INSTALLED else function


def constexpr(value: int) -> Any:
    """A number that kernels read as a global constant; without Triton the number itself."""
    return tl.constexpr(value) if INSTALLED else value


def launch(
    kernel: Any, grid: tuple[int, ...], *args: Argument, **constants: float | tuple[int, ...]
) -> None:
    """Run a kernel. Every launch goes through here, so that ``compile_gate`` can list them.

    Args:
        kernel: made by ``jit``.
        grid: programs per axis.
        args: of the kernel, the first one a tensor: its device runs the kernel, and tensors
            without data (meta) only record the launch.
        constants: compile-time arguments, and Triton's own, such as ``num_warps``.
    """
    # a * b + c in one rounding, which Triton 3.10 will no longer do unasked.
    constants["enable_fp_fusion"] = True
    if args[0].is_meta:
        recorded.append((kernel, args, constants))
    else:
        with torch.cuda.device_of(args[0]):  # Triton goes by the current device
            kernel[grid](*args, **constants)


# What was launched on tensors without data: kernel, arguments, compile-time constants.
recorded: list[tuple[Any, tuple[Argument, ...], dict[str, float | tuple[int, ...]]]] = []


def power_of_two(n: int) -> int:
    """The smallest power of two that is ``n`` or more: Triton's blocks have no other sizes."""
    return 1 << (n - 1).bit_length()
