"""The one way to Triton, which only Linux has: elsewhere kernels are defined but can't run.

Importing it takes as long as a fifth of torch: only what defines or launches kernels does so.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from fastinfogan.kernels.triton_needs import INSTALLED

if INSTALLED:
    import triton
    from triton import language as tl
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
else:
    triton = tl = None

Argument = torch.Tensor | tuple[torch.Tensor, ...] | float | None  # of a kernel


Constants = dict[str, float | tuple[int, ...]]  # compile-time arguments, and Triton's own

HOPPER = 9  # compute capability 9.0

# From Hopper on a launch can be early (await_previous): not before a GPU has shown what that gains.
early = False
_EARLY: Constants = {"EARLY": True, "launch_pdl": True}
_LATE: Constants = {"EARLY": False}


class Launch(NamedTuple):
    """One launch, as ``launch`` was asked for it."""

    kernel: Any
    grid: tuple[int, ...]  # programs per axis
    args: tuple[Argument, ...]
    constants: Constants
    on_hopper: Constants  # these in their place on such a GPU

    def on(self, capability: int) -> Launch:
        """As a GPU of this compute capability, times 10, launches it: early where it can."""
        placed = _placed(self.constants, self.on_hopper, capability // 10, early=True)
        return self._replace(constants=placed)


def _placed(constants: Constants, on_hopper: Constants, generation: int, early: bool) -> Constants:
    """The constants of a launch on a GPU whose compute capability begins with ``generation``."""
    chosen = on_hopper if generation == HOPPER else {}
    when = _EARLY if early and generation >= HOPPER else _LATE
    return constants | chosen | when


def jit(function: Callable[..., None]) -> Any:
    """``triton.jit``, or the function itself where there is no Triton to run it."""
    return triton.jit(function) if INSTALLED else function


def constexpr(value: int) -> Any:
    """A number that kernels read as a global constant; without Triton the number itself."""
    return tl.constexpr(value) if INSTALLED else value


@jit
def await_previous(EARLY: tl.constexpr):
    """What every kernel begins with: wait for the launch before, and let the next one in.

    A launch is early if its programs get to the GPU as soon as those of the launch before it on its
    stream have all come past this line, or ended; they wait here until those are through and what
    they wrote can be read. (CUDA calls it programmatic dependent launch.) No memory of the GPU may
    be read or written before.
    """
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    *args: Argument,
    on_hopper: Constants | None = None,
    **constants: float | tuple[int, ...],
) -> None:
    """Run a kernel. Every launch goes through here, so that ``compile_gate`` can list them.

    Args:
        kernel: made by ``jit``.
        grid: programs per axis.
        args: of the kernel, the first one a tensor: its device runs the kernel, and tensors
            without data (meta) only record the launch.
        on_hopper: constants that are others on a GPU of compute capability 9.0.
        constants: compile-time arguments, and Triton's own, such as ``num_warps``.
    """
    # a * b + c in one rounding, which Triton 3.10 will no longer do unasked.
    constants["enable_fp_fusion"] = True
    if args[0].is_meta:
        # Not the tensors themselves: autograd copies a gradient that somebody else holds.
        shown = tuple(map(_detached, args))
        recorded.append(Launch(kernel, grid, shown, constants, on_hopper or {}))
    else:
        constants = _placed(constants, on_hopper or {}, _generation(args[0].device), early)
        with torch.cuda.device_of(args[0]):  # Triton goes by the current device
            kernel[grid](*args, **constants)


@functools.cache
def _generation(device: torch.device) -> int:
    """The first digit of a GPU's compute capability; 0 on a CPU."""
    return torch.cuda.get_device_capability(device)[0] if device.type == "cuda" else 0


# What was launched on tensors without data.
recorded: list[Launch] = []


def _detached(value: Argument) -> Argument:
    if isinstance(value, tuple):
        return tuple(part.detach() for part in value)
    return value.detach() if isinstance(value, torch.Tensor) else value
