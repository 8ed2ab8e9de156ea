"""Checks of arguments that the ops share: each error names the op, the argument and what works.

All raise ValueError. ``op`` and ``name`` are what the message calls the op and its argument. They
run on every call, so a message is put together only when it is needed. What only one op asks for
is in its own ``arguments.py``.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor

FLOATS = frozenset((torch.float16, torch.bfloat16, torch.float32, torch.float64))
_FLOATS_WORK = "a float of 16, 32 or 64 bits works"


def check_tensor(op: str, name: str, value: object) -> None:
    """Raises unless it is a tensor: a number, say, isn't."""
    if not isinstance(value, Tensor):
        shown = "None" if value is None else f"of type {type(value).__name__}"
        raise ValueError(f"{op}: {name} is {shown}; a tensor works")


def check_float(op: str, name: str, tensor: Tensor) -> None:
    """Raises unless the tensor has one of ``FLOATS``."""
    if tensor.dtype not in FLOATS:
        raise ValueError(f"{op}: {name} is {tensor.dtype}; {_FLOATS_WORK}")


def check_float_dtype(op: str, dtype: torch.dtype) -> None:
    """The same for an argument ``dtype``, of a result."""
    if dtype not in FLOATS:
        raise ValueError(f"{op}: dtype={dtype}; {_FLOATS_WORK}")


def check_dtype(op: str, name: str, tensor: Tensor, dtypes: Collection[torch.dtype]) -> None:
    """Raises unless the tensor has one of ``dtypes``."""
    check_tensor(op, name, tensor)
    if tensor.dtype not in dtypes:
        raise ValueError(f"{op}: {name} is {tensor.dtype}; {_what_works(dtypes)}")


def check_same_dtype(op: str, name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Raises unless the tensor has the other's dtype."""
    if tensor.dtype != other.dtype:
        raise ValueError(
            f"{op}: {name} is {tensor.dtype}, and {other_name} {other.dtype}; one dtype works"
        )


def check_shape(op: str, name: str, tensor: Tensor, shape: tuple[int, ...], fits: str) -> None:
    """Raises unless the tensor has this shape, which fits what ``fits`` says."""
    check_tensor(op, name, tensor)
    if tensor.shape != shape:
        raise ValueError(f"{op}: {name} is {tuple(tensor.shape)}; {tuple(shape)} fits {fits}")


def check_same_device(op: str, name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Raises unless the tensor is on the other's device."""
    if tensor.device != other.device:
        raise ValueError(f"{op}: {name} is on {tensor.device}, and {other_name} on {other.device}")


def check_vector(
    op: str, name: str, tensor: Tensor, dtype: torch.dtype, device: torch.device, fits: str
) -> None:
    """Raises unless a kernel can read the vector by its address beside ``fits``.

    That takes this dtype, this device, and numbers that are adjacent in memory.
    """
    if tensor.dtype != dtype:
        raise ValueError(f"{op}: {name} is {tensor.dtype}; {dtype} fits {fits}")
    if tensor.device != device:
        raise ValueError(f"{op}: {name} is on {tensor.device}, and {fits} on {device}")
    if not tensor.is_contiguous():
        raise ValueError(f"{op}: {name} has stride {tensor.stride(0)}; it must have 1")


def check_number(op: str, name: str, tensor: Tensor) -> None:
    """Raises unless the tensor is a number on the device: int64, of shape (1,)."""
    check_tensor(op, name, tensor)
    if tensor.dtype != torch.int64 or tensor.shape != (1,):
        raise ValueError(
            f"{op}: {name} is {tensor.dtype} of shape {tuple(tensor.shape)}; "
            "it must be torch.int64 of shape (1,)"
        )


def check_seed(op: str, seed: Tensor | None, dtype: torch.dtype, device: torch.device) -> None:
    """Raises unless what a loss's backward pass begins with is one such number, on the device."""
    if seed is not None and (seed.numel() != 1 or seed.dtype != dtype or seed.device != device):
        raise ValueError(
            f"{op}: seed is {seed.dtype} of shape {tuple(seed.shape)} on {seed.device}; "
            f"one number, {dtype}, on {device} works"
        )


def check_begun_with(op: str, seed: Tensor, gradient: Tensor) -> None:
    """Raises unless a loss's backward pass was begun with the seed that the loss was given."""
    if not torch.compiler.is_compiling() and gradient.data_ptr() != seed.data_ptr():
        raise ValueError(f"{op}: the backward pass began with another tensor than seed")


def check_between(op: str, name: str, value: float, low: float, high: float) -> None:
    """Raises unless ``value`` lies between the two, which count."""
    if not low <= value <= high:
        raise ValueError(f"{op}: {name}={value}; {low} to {high} work")


def check_statistics(op: str, momentum: float, eps: float) -> None:
    """Raises unless running statistics can be kept, and roots taken, with these two."""
    check_between(op, "momentum", momentum, 0, 1)
    if not 0.0 <= eps < math.inf:
        raise ValueError(f"{op}: eps={eps}; 0 or more works")


def check_range(op: str, output_range: tuple[float, float]) -> None:
    """Raises unless the range of a picture's values has two ends, the higher one last."""
    if len(output_range) != 2 or not -math.inf < output_range[0] < output_range[1] < math.inf:
        raise ValueError(f"{op}: output_range={output_range}; two rising finite numbers work")


def check_at_least(op: str, name: str, value: int, least: int) -> None:
    """Raises unless ``value`` is ``least`` or more."""
    if value < least:
        raise ValueError(f"{op}: {name}={value}; {least} or more work")


def _what_works(dtypes: Collection[torch.dtype]) -> str:
    *others, last = (str(dtype).removeprefix("torch.") for dtype in dict.fromkeys(dtypes))
    return f"{', '.join(others)} and {last} work" if others else f"it must be torch.{last}"
