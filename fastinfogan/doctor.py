"""What this installation can do: each part that training needs or gains from, found or not.

Parts are imported where they are looked at: one that is broken is reported, like the others.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from fastinfogan.errors import UserError
from fastinfogan.printable import entry, printable
from fastinfogan.sizes import counted

Status = Literal["ok", "missing", "off"]
_DATASET = "dataset "  # what the name of a dataset's part begins with
_COLUMN = 16  # wide enough for every part's name


@dataclass(frozen=True)
class Check:
    """One part of the installation.

    Attributes:
        name: of the part.
        status: "ok"; "missing" if it can be installed or fetched; "off" if it is there but does
            not work, or can't be had here.
        detail: what was found, in one line.
        consequence: what that means for the user, in one line; "" if nothing.
    """

    name: str
    status: Status
    detail: str
    consequence: str = ""


def report() -> list[Check]:
    """Look at every part. Never raises: a part that breaks is reported as it broke."""
    parts: list[tuple[str, Callable[[], Check]]] = [
        ("python", _python),
        ("torch", _torch),
        ("device", _device),
        ("--amp", _amp),
        ("triton", _triton),
        ("--compile", _compile),
        ("dali", _dali),
        ("native module", _native),
        ("tensorboard", _tensorboard),
        ("onnx", _onnx),
        ("onnxruntime", _onnxruntime),
    ]
    return [_guarded(name, look) for name, look in parts] + list(_datasets())


def what_will_run(checks: list[Check]) -> str:
    """What ``fastinfogan train`` does here without further flags, in one line.

    Args:
        checks: what ``report`` gave.
    """
    found = {check.name: check for check in checks}
    if found["torch"].status != "ok":
        return "nothing: torch is unusable"
    import torch

    from fastinfogan.device import describe_device, pick_device

    device = pick_device("auto")
    if found["device"].status == "ok":
        return f"training on {device} ({describe_device(device)}) in float32"
    # A GPU that is there but broken is still the one that --device auto takes.
    flag = "with --device cpu, " if device.type == "cuda" else ""
    threads = counted(torch.get_num_threads(), "thread")
    return f"{flag}training on the CPU in float32 with {threads}"


def main() -> int:
    """Print the report: a part a paragraph, with what follows from it after an arrow.

    Returns:
        The exit status: 1 if torch is unusable, otherwise 0.
    """
    from rich.console import Console
    from rich.text import Text

    checks = report()
    console = Console(highlight=False)
    colours = {"ok": "green", "missing": "yellow", "off": "yellow"}
    of_datasets = [check for check in checks if check.name.startswith(_DATASET)]
    for check in checks:
        if of_datasets and check is of_datasets[0]:
            print("datasets:")
        head = f"{check.name.removeprefix(_DATASET):<{_COLUMN}} {check.status:<8} "
        texts = [check.detail, *(f"-> {text}" for text in [check.consequence] if text)]
        first, *others = entry(head, map(printable, texts))
        shown = Text(first)
        shown.stylize(colours[check.status], _COLUMN + 1, _COLUMN + 1 + len(check.status))
        console.print(shown, soft_wrap=True)
        print(*others, sep="\n", end="\n" * bool(others))
    print(f"What will run: {what_will_run(checks)}")
    return 0 if any(check.name == "torch" and check.status == "ok" for check in checks) else 1


def _guarded(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except Exception as error:  # broken installations are what this report is for
        return Check(name, "off", _one_line(error), "what needs it does not work")


def _python() -> Check:
    return Check(
        "python", "ok", f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    )


def _torch() -> Check:
    try:
        import torch
    except ModuleNotFoundError:
        return Check("torch", "missing", "not installed", "nothing runs")
    except Exception as error:
        return Check("torch", "off", f"does not import: {_one_line(error)}", "nothing runs")
    capability = torch.backends.cpu.get_cpu_capability()
    threads = counted(torch.get_num_threads(), "thread")
    return Check("torch", "ok", f"{torch.__version__}, CPU code for {capability}, {threads}")


def _device() -> Check:
    import torch

    with warnings.catch_warnings(record=True) as warned:  # an old driver shows in no other way
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if not available:
        reasons = [f": {' '.join(str(warning.message).split())}" for warning in warned[:1]]
        if not torch.backends.cuda.is_built():
            reasons = ["; torch is built without CUDA"]
        return Check("device", "off", "".join(["no GPU", *reasons]), "training runs on the CPU")
    try:
        torch.ones(1, device="cuda:0").add_(1).item()
    except Exception as error:  # a driver too old, a GPU that torch has no code for, or a full one
        name = torch.cuda.get_device_name(0)
        broken = f"{name} does not work: {_one_line(error)}"
        return Check("device", "off", broken, "training needs --device cpu")
    return Check("device", "ok", "; ".join(map(_gpu, range(torch.cuda.device_count()))))


def _amp() -> Check:
    from fastinfogan.device import pick_device
    from fastinfogan.plan import half_type

    device = pick_device("auto")
    try:
        dtype = half_type(device)
    except UserError:
        emulated = "refused, unless --amp-dtype bfloat16 asks for slow emulation"
        return Check("--amp", "off", "this CPU has no bfloat16 arithmetic", emulated)
    return Check("--amp", "ok", f"{str(dtype).removeprefix('torch.')} on {device}")


def _gpu(index: int) -> str:
    import torch

    gpu = torch.cuda.get_device_properties(index)
    bfloat16 = "bfloat16" if gpu.major >= 8 else "no bfloat16"
    return (
        f"cuda:{index} {gpu.name}, compute capability {gpu.major}.{gpu.minor}, "
        f"{gpu.total_memory / 2**30:.0f} GiB, {bfloat16}"
    )


def _triton() -> Check:
    in_torch = "the kernels run as plain PyTorch"
    version = _version("triton")
    if version is None:
        return Check("triton", "missing", "not installed", in_torch)
    import triton

    if os.environ.get("TRITON_INTERPRET") == "1":
        return Check("triton", "off", f"{version}, TRITON_INTERPRET=1", "kernels run, very slowly")
    import torch

    if not torch.cuda.is_available():
        return Check("triton", "off", f"{version}, no GPU to compile for")
    try:
        # Builds and loads Triton's own launcher: fails without a C compiler or a fitting driver.
        target = triton.runtime.driver.active.get_current_target()
    except Exception as error:
        return Check("triton", "off", f"{version} does not work: {_one_line(error)}", in_torch)
    return Check("triton", "ok", f"{version}, compiles for {target.backend} {target.arch}")


def _compile() -> Check:
    from fastinfogan.compiling import missing
    from fastinfogan.device import pick_device

    device = pick_device("auto")
    if lacks := missing(device):
        return Check("--compile", "missing", lacks, "refused")
    return Check("--compile", "ok", f"works on {device}")


def _dali() -> Check:
    with_pillow = "image files are decoded by Pillow"
    packages = ("nvidia-dali-cuda130", "nvidia-dali-cuda120")
    found = [f"{package} {version}" for package in packages if (version := _version(package))]
    if not found:
        if sys.platform != "linux":
            return Check("dali", "off", "exists for Linux only", with_pillow)
        return Check("dali", "missing", f"not installed; {_dali_extra()} has it", with_pillow)
    try:
        importlib.import_module("nvidia.dali")
    except Exception as error:
        broken = f"{' and '.join(found)} does not import: {_one_line(error)}"
        return Check("dali", "off", broken, with_pillow)
    return Check("dali", "ok", " and ".join(found))


def _dali_extra() -> str:
    import torch

    is_cuda_12 = (torch.version.cuda or "").startswith("12.")
    return f"the extra {'dali-cuda12' if is_cuda_12 else 'dali'}"


def _native() -> Check:
    from fastinfogan.kernels import native_module

    module, reason = native_module.find()
    if module is None:
        return Check("native module", "missing", reason, "the CPU kernels run as plain PyTorch")
    features = [name for name, has in module.cpu_features().items() if has]
    threads = counted(module.threads(), "thread")
    return Check("native module", "ok", f"{' '.join(features) or 'no vector units'}, {threads}")


def _tensorboard() -> Check:
    return _extra(
        "tensorboard", "tensorboard", "torch.utils.tensorboard", "metrics go to metrics.jsonl only"
    )


def _onnx() -> Check:
    return _extra("onnx", "onnx", "onnx", "export --format onnx is refused")


def _onnxruntime() -> Check:
    return _extra("onnxruntime", "onnx", "onnxruntime", "export --format onnx is refused")


def _extra(package: str, extra: str, module: str, without: str) -> Check:
    """A package that an extra of ours installs; ``without``: what its absence means."""
    version = _version(package)
    if version is None:
        return Check(package, "missing", f"not installed; the extra {extra} has it", without)
    try:
        importlib.import_module(module)
    except Exception as error:
        broken = f"{version} does not import: {_one_line(error)}"
        return Check(package, "off", broken, without)
    return Check(package, "ok", version)


def _datasets() -> Iterator[Check]:
    try:
        from fastinfogan.data import DATASETS
    except Exception as error:
        yield Check("datasets", "off", _one_line(error), "no data to train on")
        return
    for name in DATASETS:
        yield _guarded(f"{_DATASET}{name}", lambda name=name: _dataset(name))


def _dataset(name: str) -> Check:
    from fastinfogan.data import dataset_status

    ready, detail = dataset_status(name)
    return Check(f"{_DATASET}{name}", "ok" if ready else "missing", detail)


def _version(package: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
