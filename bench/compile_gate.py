"""Compiles every Triton kernel for GPUs that aren't here.

``python -m bench.compile_gate`` prints a table of what each takes.

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

from fastinfogan.kernels import (
    adam,
    bn_act,
    consistency,
    gather,
    latents,
    mi_loss,
    triton_module,
)
from fastinfogan.kernels.codes import Code

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
# Numbers in each parameter of the network with the most of them, in their order.
# tests/test_kernel_gate.py holds the table against the presets.
ADAM_SIZES = (
    *(1024, 64, 131_072, 128, 128, 524_288, 256, 256, 1_048_576, 256, 256, 1_048_576, 256, 256),
    *(16_777_216, 1024, 1024, 1024, 1, 63_488, 62),
)
BATCH = 128
# Noise and categories of each code, 0 for a uniform one: tests/test_kernel_latents.py holds the
# table against the presets.
LATENTS = (
    *((16, (10,)), (62, (10, 0, 0)), (124, (10, 10, 10, 10, 0, 0, 0, 0)), (128, (10,) * 10)),
    *((128, (0,) * 5), (128, (10, 0, 0, 0, 0)), (128, (20, 20, 20, 0))),
)
# Height, width and channels, and number of images, of the presets and their data.
IMAGES = (
    *((60_000, 28, 28, 1), (5_000, 28, 28, 1), (73_257, 32, 32, 3), (202_599, 32, 32, 3)),
    *((10_000, 32, 32, 1), (86_366, 64, 64, 1)),
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
    _, stats = bn_act.triton.bn_act_forward(
        x, None, vector, vector, *statistics, 0.1, groups, 0.1, 1e-5, training
    )
    bn_act.triton.bn_act_backward(x, x, vector, vector, stats, None, None, 0.1, groups, training)


def _run_adam(dtype: torch.dtype) -> None:
    """Gradients of ``dtype``, but of vectors float32, as batchnorm's are; scaled where float16."""
    half = dtype != torch.float32
    flat = torch.empty(adam.offsets(ADAM_SIZES)[1], device="meta")
    scalar = torch.empty(1, device="meta")
    grads = [
        torch.empty(size, dtype=torch.float32 if size <= 1024 else dtype, device="meta")
        for size in ADAM_SIZES
    ]
    adam.triton.adam(
        *(flat, grads, flat, flat, scalar.long(), scalar),
        flat.to(dtype) if half else None,
        *((scalar, scalar) if dtype == torch.float16 else (None, None)),
        *(0.5, 0.999, 1e-8),
    )


def _run_latents(dtype: torch.dtype) -> None:
    number = torch.empty(1, dtype=torch.int64, device="meta")
    for noise, categories in LATENTS:
        codes = [Code("categorical" if k else "uniform", k) for k in categories]
        table = latents.layout.layout_of(noise, codes)
        for shift in (0, BATCH):  # an iteration's first and second draw
            latents.triton.latents_triton(number, number, shift, BATCH, noise, *table, dtype)


def _run_gather(dtype: torch.dtype) -> None:
    number = torch.empty(1, dtype=torch.int64, device="meta")
    indices = torch.empty(BATCH, dtype=torch.int64, device="meta")
    for shape in IMAGES:
        images = torch.empty(shape, dtype=torch.uint8, device="meta")
        for low in (0.0, -1.0):
            gather.triton.draw_triton(images, number, number, 0, BATCH, low, 1.0, dtype)
            gather.triton.gather_triton(images, indices, low, 1.0, dtype)
        gather.triton.order_triton(indices, shape[0], number)


def _run_mi_loss(dtype: torch.dtype) -> None:
    batch = 128
    for codes in MI_LOSS_CODES:
        known = mi_loss.arguments.read("mi_loss", codes, (1.0,) * len(codes))
        q_params = torch.empty(batch, known.columns, dtype=dtype, device="meta")
        values = torch.empty(batch, len(codes), device="meta")
        for logits in (2 * batch, batch):  # of d_loss, g_loss
            mi_loss.triton.mi_loss_triton(q_params.new_empty(logits), q_params, values, *known[:3])
    mi_loss.triton.mi_loss_triton(None, q_params, values, *known[:3])


def _run_consistency(dtype: torch.dtype) -> None:
    for codes in MI_LOSS_CODES:
        if any(code.is_discrete for code in codes):
            known = consistency.read(codes)
            q_copy = torch.empty(BATCH, sum(known.widths), dtype=dtype, device="meta")
            consistency.triton.consistency_triton(q_copy, q_copy, *known)


RUNS = (_run_bn_act, _run_adam, _run_latents, _run_gather, _run_mi_loss, _run_consistency)


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
) -> tuple[dict[str, Any], dict[tuple[int, ...], list[list[Any]]], dict[str, Any]]:
    """Types, what is divisible by 16, and compile-time values, as Triton's launcher has them."""
    pointers = {
        torch.float32: "*fp32",
        torch.bfloat16: "*bf16",
        torch.float16: "*fp16",
        torch.int32: "*i32",
        torch.int64: "*i64",
        torch.uint8: "*u8",
    }
    signature: dict[str, Any] = {}
    attributes: dict[tuple[int, ...], list[list[Any]]] = {}
    values: dict[str, Any] = {}

    def type_of(value: Any, path: tuple[int, ...]) -> Any:
        divisible = [["tt.divisibility", 16]]
        if isinstance(value, tuple):
            return tuple(type_of(part, (*path, i)) for i, part in enumerate(value))
        if isinstance(value, torch.Tensor):
            attributes[path] = divisible
            return pointers[value.dtype]
        if isinstance(value, float):
            return "fp32"
        if value % 16 == 0:
            attributes[path] = divisible
        return "i32" if value < 2**31 else "i64"

    for i, (name, value) in enumerate(zip(kernel.arg_names, args, strict=False)):
        if value is None or (type(value) is int and value == 1):
            signature[name], values[name] = "constexpr", value
        else:
            signature[name] = type_of(value, (i,))
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
    return " ".join(
        f"{name}={f'({len(value)})' if isinstance(value, tuple) else f'{+value:.6g}'}"
        for name, value in shown.items()
    )


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
