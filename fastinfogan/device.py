"""Devices: pick the one that ``--device`` names, ask what it has, wait for it, copy from it."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping

import torch
from torch import Tensor

from fastinfogan.errors import UserError
from fastinfogan.sizes import counted


def pick_device(name: str) -> torch.device:
    """The device that ``--device`` names; ``auto`` is the first GPU, else the CPU.

    Raises:
        UserError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, OverflowError, ValueError):
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {name!r}: auto, cpu, cuda and cuda:N work")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        there = "this machine shows no GPU"
        if count:
            there = f"cuda:0 to cuda:{count - 1} are there" if count > 1 else "only cuda:0 is there"
        raise UserError(f"--device {name!r} isn't there: {there}; cpu works")
    return device


def describe_device(device: torch.device) -> str:
    """One phrase: the GPU's name, or the CPU with its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"the CPU with {counted(torch.get_num_threads(), 'thread')}"


def half_precision_units(device: torch.device) -> str:
    """What of a device multiplies numbers in half precision faster than float32; "" if nothing.

    Arm's BF16 instructions aren't among it: how much they gain hasn't been measured.
    """
    if device.type == "cuda":
        return "tensor cores" if torch.cuda.get_device_capability(device) >= (7, 0) else ""
    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    return "AVX512-BF16" if torch.cpu._is_avx512_bf16_supported() else ""


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 numbers in hardware."""
    if platform.machine().lower() in ("x86_64", "amd64"):
        return half_precision_units(torch.device("cpu")) != ""
    # On x86 this would count emulation too. (macOS has no oneDNN.)
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def total_memory(device: torch.device) -> int:
    """Bytes of memory that the device has."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return _main_memory("MemTotal")


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on the device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return _main_memory("MemAvailable")


def _main_memory(row: str) -> int:
    """Bytes in a row of Linux's /proc/meminfo; on other systems the total has to do."""
    try:
        with open("/proc/meminfo") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith(row))
    except (OSError, StopIteration):
        pass
    if sys.platform == "win32":
        return _windows_memory()
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _windows_memory() -> int:
    import ctypes

    kilobytes = ctypes.c_ulonglong()
    if not ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes)):
        return 4 << 30  # a machine that doesn't say: assume little
    return kilobytes.value << 10


def wait(device: torch.device) -> None:
    """Return once the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def on_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies in the computer's memory, which are whole on return.

    Each is laid out as its tensor is, so that nothing but bytes moves; from a GPU at the bus's full
    speed, which takes pinned memory. Its stream runs nothing else meanwhile: a copy on the device
    first would spare it a few milliseconds, for as much of its memory again.

    Args:
        tensors: on any devices.
    """
    copies = {
        name: torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda).copy_(
            tensor, non_blocking=True
        )
        for name, tensor in tensors.items()
    }
    for device in {tensor.device for tensor in tensors.values()}:
        wait(device)
    return copies
