"""Compiles every Triton kernel for GPUs that aren't here.

``python -m bench.compile_gate`` prints a table of what each takes.

What is compiled are the launches of the presets and datasets (see launches.py). ptxas, which comes
with Triton, then says what each kernel takes of each GPU. A kernel that spills registers, or wants
more shared memory than a block can have there, fails the gate.
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

from bench.launches import Launch, all_launches, specialize
from fastinfogan.kernels import triton_module

# Shared memory that a block can have, in bytes (CUDA C++ Programming Guide, table of technical
# specifications per compute capability, "maximum amount of shared memory per thread block").
SHARED_LIMIT = {75: 65_536, 80: 166_912, 90: 232_448, 100: 232_448, 120: 101_376}


@dataclass(frozen=True)
class Usage:
    """What one compiled kernel takes.

    Attributes:
        kernel: its name.
        dtype: of its first tensor.
        constants: its compile-time constants, for messages.
        capability: the GPU's compute capability, times 10.
        registers: per thread.
        spilled: bytes per thread in local memory, of registers that did not fit.
        shared: bytes per block.
    """

    kernel: str
    dtype: str
    constants: str
    capability: int
    registers: int
    spilled: int
    shared: int

    @property
    def fault(self) -> str:
        """Why the kernel fails the gate; "" if it passes."""
        if self.spilled:
            return f"spills {self.spilled} bytes"
        limit = SHARED_LIMIT[self.capability]
        return f"wants {self.shared} bytes of {limit}" if self.shared > limit else ""


def measure(
    chosen: list[Launch] | None = None,
) -> Iterator[Usage]:
    """Compile launches for every compute capability.

    Args:
        chosen: which of ``all_launches()``; None means all.

    Yields:
        What each takes, launch by launch.

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

    for kernel, args, constants in all_launches() if chosen is None else chosen:
        signature, attributes, values = specialize(kernel, args, constants)
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
