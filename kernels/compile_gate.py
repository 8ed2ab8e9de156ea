"""Compiles every Triton kernel for GPUs that aren't here.

``python -m fastinfogan.kernels.compile_gate`` prints a table of what each takes.

Every op runs once on tensors without data, in the shapes and dtypes of the presets, so that what is
compiled is what a GPU would be asked for: the same arguments, block sizes and warps. ptxas, which
comes with Triton, then says what each kernel takes of each GPU. A kernel that spills registers, or
wants more shared memory than a block can have there, fails the gate.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fastinfogan.kernels import bn_act, mi_loss, triton_module
from fastinfogan.kernels.spec import Code

# Shared memory that a block can have, in bytes (CUDA C++ Programming Guide, table of technical
# specifications per compute capability, "maximum amount of shared memory per thread block").
SHARED_LIMIT = {75: 65_536, 80: 166_912, 90: 232_448, 100: 232_448, 120: 101_376}

# (batch rows x pixels of one group, channels) of every normalised layer at batch 128.
# tests/test_kernel_gate.py holds the table against the presets.
BN_ACT_SHAPES = (
    *((128, 128), (128, 1024), (128, 1792), (128, 2048), (128, 4096)),
    *((128, 6272), (128, 8192), (128, 16384), (2048, 128), (2048, 256)),
    *((2048, 512), (6272, 128), (8192, 64), (8192, 128), (8192, 256)),
    *((8192, 512), (25088, 64), (32768, 64), (32768, 128), (32768, 256)),
    *((131072, 64), (131072, 128), (524288, 64)),
)

_CAT10, _CAT20 = Code("categorical", 10), Code("categorical", 20)
_FIXED, _LEARNED = Code("uniform"), Code("uniform", std="learned")
# The presets' codes (tests/test_kernel_gate.py holds them against the presets), and the most that
# --codes takes.
MI_LOSS_CODES = (
    *((_CAT10,), (_CAT10,) * 10, (_CAT10, *(_FIXED,) * 2), (_CAT10, *(_FIXED,) * 4)),
    *((*(_CAT10,) * 4, *(_LEARNED,) * 4), (_LEARNED,) * 5, (*(_CAT20,) * 3, _LEARNED)),
    (Code("categorical", 1024),) * 64,
)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Usage:
    """What one compiled kernel takes."""

    kernel: str
    dtype: str  # of the first tensor
    constants: str
    capability: int
    registers: int  # per thread
    spilled: int  # bytes per thread in local memory: registers that did not fit
    shared: int  # bytes per block

    @property
    def fault(self) -> str:
        """Why the kernel fails the gate; "" if it passes."""
        if self.spilled:
            return f"spills {self.spilled} bytes"
        limit = SHARED_LIMIT[self.capability]
        return f"wants {self.shared} bytes of {limit}" if self.shared > limit else ""


def _run_bn_act(dtype: torch.dtype) -> None:
    for rows, channels in BN_ACT_SHAPES:
        for groups, training, running in ((1, True, True), (2, True, True), (2, True, False)):
            _bn_act_launches(dtype, rows, channels, groups, training, running)
        _bn_act_launches(dtype, rows, channels, 1, False, True)


def _bn_act_launches(
    dtype: torch.dtype, rows: int, channels: int, groups: int, training: bool, running: bool
) -> None:
    x = torch.empty(rows * groups, channels, dtype=dtype, device="meta")
    vector = torch.empty(channels, device="meta")
    statistics = (vector, vector) if running else (None, None)
    partials = bn_act._triton_partials(x, groups) if training else None
    _, stats = bn_act._triton_forward(
        x, partials, vector, vector, *statistics, 0.1, groups, 0.1, 1e-5
    )
    own = bn_act._triton_backward_partials(x, x, vector, vector, stats, 0.1, groups)
    bn_act._triton_backward(x, x, vector, vector, stats, own, own, 0.1, groups, training)


def _run_mi_loss(dtype: torch.dtype) -> None:
    batch = 128
    for codes in MI_LOSS_CODES:
        known = mi_loss._read("mi_loss", codes, (1.0,) * len(codes))
        q_params = torch.empty(batch, known.columns, dtype=dtype, device="meta")
        values = torch.empty(batch, len(codes), device="meta")
        for logits in (2 * batch, batch):  # of d_loss, g_loss
            mi_loss._triton(q_params.new_empty(logits), q_params, values, *known[:3])
    mi_loss._triton(None, q_params, values, *known[:3])


RUNS = (_run_bn_act, _run_mi_loss)


def launches() -> list[tuple[Any, tuple[Any, ...], dict[str, Any]]]:
    """Every launch of every op in the presets' shapes, once per thing to compile."""
    triton_module.recorded.clear()
    for run in RUNS:
        for dtype in DTYPES:
            run(dtype)
    different = {}
    for kernel, args, constants in triton_module.recorded:
        signature, attributes, values = _specialize(kernel, args, constants)
        key = (kernel.__name__, *signature.items(), *attributes, *values.items())
        different.setdefault(key, (kernel, args, constants))
    triton_module.recorded.clear()
    return list(different.values())


def _specialize(
    kernel: Any, args: tuple[Any, ...], constants: dict[str, Any]
) -> tuple[dict[str, str], dict[tuple[int], list[list[Any]]], dict[str, Any]]:
    """Types, what is divisible by 16, and compile-time values, as Triton's launcher has them."""
    pointers = {
        torch.float32: "*fp32",
        torch.bfloat16: "*bf16",
        torch.float16: "*fp16",
        torch.int32: "*i32",
        torch.int64: "*i64",
    }
    signature: dict[str, str] = {}
    attributes: dict[tuple[int], list[list[Any]]] = {}
    values: dict[str, Any] = {}
    for i, (name, value) in enumerate(zip(kernel.arg_names, args, strict=False)):
        if value is None or (type(value) is int and value == 1):
            signature[name], values[name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[name], attributes[(i,)] = pointers[value.dtype], [["tt.divisibility", 16]]
        elif isinstance(value, float):
            signature[name] = "fp32"
        else:
            signature[name] = "i32" if value < 2**31 else "i64"
            if value % 16 == 0:
                attributes[(i,)] = [["tt.divisibility", 16]]
    for name, value in constants.items():
        if name in kernel.arg_names:
            signature[name], values[name] = "constexpr", value
    return signature, attributes, values


def measure(
    chosen: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] | None = None,
) -> Iterator[Usage]:
    """Compile every launch, or those chosen of ``launches()``, for every compute capability.

    Raises:
        RuntimeError: there is no Triton, or it interprets.
    """
    if not triton_module.INSTALLED:
        raise RuntimeError("compile_gate: Triton is not installed; it comes with torch on Linux")
    if triton_module.INTERPRETED:
        raise RuntimeError("compile_gate: TRITON_INTERPRET=1 is set; without it kernels compile")
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    for kernel, args, constants in launches() if chosen is None else chosen:
        signature, attributes, values = _specialize(kernel, args, constants)
        options = {name: v for name, v in constants.items() if name not in kernel.arg_names}
        for capability in SHARED_LIMIT:
            compiled = triton.compile(
                ASTSource(kernel, signature, values, attributes),
                target=GPUTarget("cuda", capability, 32),
                options=options,
            )
            registers, spilled = _resources(compiled.asm["cubin"])
            yield Usage(
                kernel=kernel.__name__.strip("_").removesuffix("_kernel"),
                dtype=str(args[0].dtype).removeprefix("torch."),
                constants=_describe(values, options),
                capability=capability,
                registers=registers,
                spilled=spilled,
                shared=compiled.metadata.shared,
            )


def _describe(values: dict[str, Any], options: dict[str, Any]) -> str:
    shown = {name: value for name, value in {**values, **options}.items() if value is not None}
    return " ".join(f"{name}={int(value)}" for name, value in shown.items())


def _resources(cubin: bytes) -> tuple[int, int]:
    """Registers per thread, and bytes of local memory, by NVIDIA's own tool."""
    from triton import knobs

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(cubin)
        command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", path]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = {name: int(n) for name, n in re.findall(r"(REG|STACK|LOCAL):(\d+)", text)}
    return found["REG"], found["STACK"] + found["LOCAL"]


def table(usages: list[Usage]) -> str:
    """Markdown: one row per kernel, dtype and capability, the worst of its specialisations."""
    worst: dict[tuple[str, str, int], list[Usage]] = {}
    for usage in usages:
        worst.setdefault((usage.kernel, usage.dtype, usage.capability), []).append(usage)
    lines = [
        "| kernel | dtype | cc | compiled | registers | spilled bytes | shared bytes |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for (kernel, dtype, capability), group in worst.items():
        numbers = [max(getattr(u, n) for u in group) for n in ("registers", "spilled", "shared")]
        cells = [f"`{kernel}`", dtype, capability, len(group), *numbers]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> int:
    """Print the table; exit status 1 if a kernel fails the gate."""
    try:
        usages = list(measure())
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(usages))
    faults = [usage for usage in usages if usage.fault]
    for usage in faults:
        print(
            f"error: {usage.kernel} ({usage.dtype}, {usage.constants}) {usage.fault} "
            f"on compute capability {usage.capability}",
            file=sys.stderr,
        )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
