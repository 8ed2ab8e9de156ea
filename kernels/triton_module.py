"""The one way to Triton, which only Linux has: elsewhere kernels are defined but can't run.

Importing it takes as long as a fifth of torch: only what defines or launches kernels does so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from fastinfogan.kernels.triton_needs import INSTALLED

if INSTALLED:
    import triton
    from triton import language as tl
else:
    triton = tl = None

Argument = torch.Tensor | tuple[torch.Tensor, ...] | float | None  # of a kernel


class Launch(NamedTuple):
    """One launch, as ``launch`` was asked for it."""

    kernel: Any
    grid: tuple[int, ...]  # programs per axis
    args: tuple[Argument, ...]
    constants: dict[str, float | tuple[int, ...]]  # compile-time arguments, and Triton's own


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
        # Not the tensors themselves: autograd copies a gradient that somebody else holds.
        recorded.append(Launch(kernel, grid, tuple(map(_detached, args)), constants))
    else:
        with torch.cuda.device_of(args[0]):  # Triton goes by the current device
            kernel[grid](*args, **constants)


# What was launched on tensors without data.
recorded: list[Launch] = []


def _detached(value: Argument) -> Argument:
    if isinstance(value, tuple):
        return tuple(part.detach() for part in value)
    return value.detach() if isinstance(value, torch.Tensor) else value
