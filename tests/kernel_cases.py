"""What the tests of all kernels share: where implementations run, and how errors are judged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import pytest
import torch
from tolerances import EPS, KERNEL_ROUNDINGS, SAME_DTYPE_FACTOR

from fastinfogan.kernels import triton_needs

# (implementation, device, dtype). float16 is for GPUs without bfloat16. (float64, which the native
# kernels have for the engines' test, has no better truth to be held against.)
TARGETS = [
    ("native", "cpu", torch.float32),
    ("native", "cpu", torch.bfloat16),
    ("triton", "cpu", torch.float32),
    ("triton", "cpu", torch.bfloat16),
    ("triton", "cpu", torch.float16),
    pytest.param("triton", "cuda", torch.float32, marks=pytest.mark.gpu),
    pytest.param("triton", "cuda", torch.bfloat16, marks=pytest.mark.gpu),
    pytest.param("triton", "cuda", torch.float16, marks=pytest.mark.gpu),
]
PLACES = [
    ("native", "cpu"),
    ("triton", "cpu"),
    pytest.param("triton", "cuda", marks=pytest.mark.gpu),
]
# What a compiled call goes through. Inductor, which may choose another order in memory, takes
# seconds of a C++ compiler: by default one op does (conv, in test_kernel_conv.py).
BACKENDS = ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]


def in_turn(targets: Sequence[Any], *others: Iterable[Any]) -> list[Any]:
    """What parametrize takes for ``others`` and then a target's three: all with all, but one thing.

    In the interpreter, which is slow, each combination of the others has one dtype; dtypes take
    turns, so that each meets every value.

    Args:
        targets: of ``TARGETS``.
        others: the values of each other parameter.
    """
    targets = [getattr(target, "values", target) for target in targets]
    dtypes = [target[2] for target in targets if target[:2] == ("triton", "cpu")]
    found = []
    for rest in product(*(tuple(enumerate(values)) for values in others)):
        turn = dtypes[sum(number for number, _ in rest) % len(dtypes)]
        values = [value for _, value in rest]
        for impl, device, dtype in targets:
            if (impl, device) != ("triton", "cpu") or dtype == turn:
                words = [*map(str, values), impl, device, str(dtype).removeprefix("torch.")]
                marks = [pytest.mark.gpu] if device == "cuda" else []
                found.append(
                    pytest.param(*values, impl, device, dtype, id="-".join(words), marks=marks)
                )
    return found


def need(impl: str, device: str) -> None:
    """Skips the test where ``impl`` can't run on ``device``."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    if impl == "triton":
        if not triton_needs.INSTALLED:
            pytest.skip("Triton is not installed")
        if device == "cpu" and not triton_needs.INTERPRETED:
            pytest.skip("Triton runs on the GPU here, not in its interpreter")


def accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def assert_as_close_as(got, reference, truth, name, condition=1.0):
    """``got`` is as close to ``truth`` (float64) as the reference in the same dtype is.

    ``condition``: how far the formula blows the rounding of its inputs up.
    """
    if truth is None:
        assert got is None, name
        return
    assert got.dtype == reference.dtype and got.shape == reference.shape, name
    got, error_of = got.detach().cpu(), lambda t: (t.double() - truth).norm().item()
    # Storing the result rounds it once; the interpreter cuts float32 -> bfloat16 off instead.
    cut = triton_needs.INTERPRETED and got.dtype == torch.bfloat16
    stored = EPS[got.dtype] * (1.0 if cut else 0.5) * truth.norm().item()
    largest = truth.abs().max().item() * truth.numel() ** 0.5
    computed = condition * KERNEL_ROUNDINGS * EPS[accumulator(got.dtype)] * largest
    error, own = error_of(got), error_of(reference.detach().cpu())
    allowed = SAME_DTYPE_FACTOR * own + stored + computed
    assert error <= allowed, f"{name}: {error:.3g} > {allowed:.3g}; the reference's is {own:.3g}"
