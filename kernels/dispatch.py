"""Which implementation of an op runs (auto, reference, native, triton), and how ops are registered.

An op is registered once per compiled implementation, as ``fastinfogan::NAME_native`` and
``fastinfogan::NAME_triton``. Each is opaque to ``torch.compile``, which sees its fake, and is
called inside a ``torch.autograd.Function``: of the ways to register an op, the one that works in
eager mode, compiled and under Triton's interpreter alike, and lets an op update its arguments.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Collection, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from fastinfogan.kernels import native_module, triton_needs

Impl = Literal["auto", "reference", "native", "triton"]

NATIVE, _NATIVE_MISSING = native_module.find()
if NATIVE is not None and not NATIVE.KERNELS:
    NATIVE, _NATIVE_MISSING = None, "built by a compiler other than GCC and Clang, without kernels"

# Whether native kernels run on torch's threads, or on one: see CMakeLists.txt.
THREADED = NATIVE is not None and NATIVE.OPENMP

# What the kernels take, where an op doesn't say otherwise; the numbers are Dtype's in
# native/kernels.h.
NATIVE_DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float64: 2}
TRITON_DTYPES = (torch.float32, torch.bfloat16, torch.float16)

_launchers: dict[str, Callable[..., Any]] = {}
_library = torch.library.Library("fastinfogan", "DEF")

_plain = False  # "auto" takes the reference


@contextlib.contextmanager
def plain_ops() -> Iterator[None]:
    """Inside, ``impl="auto"`` takes the reference: what the kernels gain is measured against it."""
    global _plain
    _plain = True
    try:
        yield
    finally:
        _plain = False


@contextlib.contextmanager
def recorded() -> Iterator[None]:
    """Inside, torch's profiler sees native kernels, as ``native::NAME``.

    It asks torch's dispatcher, which they pass by.
    """
    if NATIVE is None:
        yield
        return
    callables = {name: kernel for name, kernel in vars(NATIVE).items() if callable(kernel)}
    for name, kernel in callables.items():
        setattr(NATIVE, name, torch.profiler.record_function(f"native::{name}")(kernel))
    try:
        yield
    finally:
        for name, kernel in callables.items():
            setattr(NATIVE, name, kernel)


def choose(
    op: str,
    impl: Impl,
    tensor: Tensor,
    *,
    native: Collection[torch.dtype],
    triton: Collection[torch.dtype],
) -> Impl:
    """The implementation that runs ``op`` on ``tensor``: never "auto".

    "auto" takes Triton on CUDA, native on the CPU, and the reference where that one can't run. For
    tensors without data (meta) it decides as for CUDA: what a GPU would run can be counted.

    Args:
        op: the public function's name, for messages.
        impl: what the caller asked for.
        tensor: an input; its device and dtype decide.
        native, triton: the dtypes that these implementations take.

    Raises:
        ValueError: no implementation has that name.
        RuntimeError: the one asked for can't run here.
    """
    dtypes = {"native": native, "triton": triton}
    if impl == "auto":
        if _plain:
            return "reference"
        fastest: Impl = "triton" if tensor.is_cuda or tensor.is_meta else "native"
        # An interpreted kernel is for tests: correct, and slower than anything.
        slow = tensor.is_cuda and triton_needs.INTERPRETED
        return "reference" if slow or _obstacle(fastest, tensor, dtypes[fastest]) else fastest
    if impl == "reference":
        return impl
    if impl not in dtypes:
        raise ValueError(f"{op}: impl={impl!r} is unknown; auto, reference, native, triton work")
    if obstacle := _obstacle(impl, tensor, dtypes[impl]):
        raise RuntimeError(f"{op}: impl={impl!r} can't run: {obstacle}")
    return impl


def _obstacle(impl: Impl, tensor: Tensor, dtypes: Collection[torch.dtype]) -> str:
    """Why ``impl`` can't take ``tensor``, in one line; "" if it can."""
    if not dtypes:
        return "the op has no such implementation"
    device = tensor.device.type
    if impl == "native":
        if NATIVE is None:
            return f"the native module is {_NATIVE_MISSING}"
        if device != "cpu":
            return f"it takes CPU tensors, and this one is on {device}"
    else:
        if not triton_needs.INSTALLED:
            return "Triton is not installed"
        # On "meta", without data, launches are recorded: see triton_module.
        if device not in ("meta", "cpu" if triton_needs.INTERPRETED else "cuda"):
            wanted = "CPU tensors (TRITON_INTERPRET=1)" if triton_needs.INTERPRETED else "a GPU"
            return f"it needs {wanted}, and this tensor is on {device}"
        if device == "cuda" and triton_needs.MISSING:
            return triton_needs.MISSING
    if tensor.dtype not in dtypes:
        return f"it has no {str(tensor.dtype).removeprefix('torch.')} kernel"
    return ""


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """What sums and statistics of tensors of ``dtype`` are kept in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def native_result(dtype: torch.dtype) -> torch.dtype:
    """What a native kernel writes where ``dtype`` is wanted: float16 is made of float32."""
    return dtype if dtype in NATIVE_DTYPES else torch.float32


def address(tensor: Tensor | None) -> int:
    """Where a native kernel finds the tensor; 0 for None."""
    return 0 if tensor is None else tensor.data_ptr()


class later:
    """A module whose functions are there before it is: the first call of one imports it.

    So that importing Triton, and reading the sources of its kernels, waits until one is launched:
    on a CPU, for ever.

    Args:
        module: its full name.
    """

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Callable[..., Any]:
        find = functools.cache(lambda: getattr(importlib.import_module(self._module), name))
        return lambda *arguments: find()(*arguments)


def register(
    schema: str,
    *,
    native: Callable[..., Any] | None = None,
    triton: Callable[..., Any] | None = None,
    fake: Callable[..., Any],
) -> None:
    """Register an op's compiled implementations, both or one.

    Args:
        schema: as ``torch.library`` has it: name, arguments, results.
        native, triton: the launchers; None where there is none.
        fake: ``(impl) -> f``, where f makes empty results from the op's arguments.
    """
    name, rest = schema.split("(", 1)
    for impl, function, keys in (
        ("native", native, ("CPU",)),
        ("triton", triton, ("CUDA", "CPU") if triton_needs.INTERPRETED else ("CUDA",)),
    ):
        if function is None:
            continue
        _launchers[f"{name}_{impl}"] = function
        # Kernels address memory by layout, so Inductor must not choose another.
        tags = (torch.Tag.needs_exact_strides, torch.Tag.pt2_compliant_tag)
        _library.define(f"{name}_{impl}({rest}", tags=tags)
        for key in keys:
            _library.impl(f"{name}_{impl}", function, key)
        torch.library.register_fake(f"fastinfogan::{name}_{impl}", fake(impl), lib=_library)


def op(name: str, impl: Impl, tensor: Tensor) -> Callable[..., Any]:
    """The registered op, e.g. ``op("bn_act_partials", "native", x)``; eagerly, its launcher.

    (Going through torch's dispatcher costs more than a small layer's arithmetic.)
    """
    if torch.compiler.is_compiling() or type(tensor) not in (Tensor, torch.nn.Parameter):
        return getattr(torch.ops.fastinfogan, f"{name}_{impl}")
    return _launchers[f"{name}_{impl}"]


@functools.cache
def multiplies(device: torch.device) -> bool:
    """Whether Triton uses the device's tensor cores."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0)
