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
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.launches import Launch, all_launches, specialize
from fastinfogan.kernels import triton_needs

# Shared memory that a block can have, in bytes (CUDA C++ Programming Guide, table of technical
# specifications per compute capability, "maximum amount of shared memory per thread block").
SHARED_LIMIT = {75: 65_536, 80: 166_912, 90: 232_448, 100: 232_448, 120: 101_376}

# Where kernels run that multiply matrices: before, Triton doesn't use tensor cores.
LEAST_FOR_PRODUCTS = 80
PRODUCTS = {
    "conv_down", "conv_up", "conv_up_image", "conv_weight",
    "linear_bn_act_forward", "linear_bn_act_backward", "linear_bn_act_parts",
    "linear_bn_act_weight", "linear_bn_act_back",
}  # fmt: skip


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
    chosen: list[Launch] | None = None, capabilities: Collection[int] = tuple(SHARED_LIMIT)
) -> Iterator[Usage]:
    """Compile launches for compute capabilities.

    Args:
        chosen: which of ``all_launches()``; None means all.
        capabilities: for which; of old ones, launches that multiply are left out.

    Yields:
        What each takes, launch by launch.

    Raises:
        RuntimeError: there is no Triton, or it interprets.
    """
    require_compiler("compile_gate")
    for launch in all_launches() if chosen is None else chosen:
        values = {**specialize(launch)[2], **options_of(launch)}
        for capability in capabilities:
            if name_of(launch) in PRODUCTS and capability < LEAST_FOR_PRODUCTS:
                continue
            compiled = compile_launch(launch, capability)
            registers, spilled = resources(compiled.asm["cubin"])
            yield Usage(
                kernel=name_of(launch),
                dtype=str(launch.args[0].dtype).removeprefix("torch."),
                constants=_describe(values),
                capability=capability,
                registers=registers,
                spilled=spilled,
                shared=compiled.metadata.shared,
            )


def require_compiler(program: str) -> None:
    """Refuse where kernels can't be compiled.

    Args:
        program: whose error it would be.

    Raises:
        RuntimeError: there is no Triton, or it interprets.
    """
    if not triton_needs.INSTALLED:
        raise RuntimeError(f"{program}: Triton is not installed; it comes with torch on Linux")
    if triton_needs.INTERPRETED:
        raise RuntimeError(f"{program}: TRITON_INTERPRET=1 is set; without it kernels compile")


def compile_launch(launch: Launch, capability: int) -> Any:
    """What Triton makes of a launch for a compute capability (times 10), with no GPU needed.

    From 9.0 on the launch is early: that is the form that could take more.

    Raises:
        ValueError: the kernel doesn't begin as all do.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if "EARLY" not in launch.kernel.arg_names:
        raise ValueError(f"{name_of(launch)}: it has no EARLY (triton_module.await_previous)")
    launch = launch.on(capability)
    signature, attributes, values = specialize(launch)
    return triton.compile(
        ASTSource(launch.kernel, signature, values, attributes),
        target=GPUTarget("cuda", capability, 32),
        options=options_of(launch),
    )


def options_of(launch: Launch) -> dict[str, Any]:
    """Of a launch's constants Triton's own, such as ``num_warps``."""
    names = launch.kernel.arg_names
    return {name: value for name, value in launch.constants.items() if name not in names}


def name_of(launch: Launch) -> str:
    """The kernel's name, for people."""
    return launch.kernel.__name__.strip("_").removesuffix("_kernel")


def _describe(values: dict[str, Any]) -> str:
    shown = {name: value for name, value in values.items() if value is not None}
    return " ".join(
        f"{name}={f'({len(value)})' if isinstance(value, tuple) else f'{+value:.6g}'}"
        for name, value in shown.items()
    )


def dump(cubin: bytes, what: str) -> str:
    """What cuobjdump, NVIDIA's own tool, prints of a compiled kernel.

    Args:
        cubin: the kernel.
        what: the tool's option, e.g. "-sass".
    """
    from triton import knobs

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(cubin)
        command = [knobs.nvidia.cuobjdump.path, what, path]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def resources(cubin: bytes) -> tuple[int, int]:
    """Registers per thread, and bytes of local memory."""
    text = dump(cubin, "--dump-resource-usage")
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
