"""What a run will do on this machine: device, number type, compiling, graphs; decided once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fastinfogan import compiling
from fastinfogan import device as devices
from fastinfogan.config import PRESETS, RunConfig, TrainConfig
from fastinfogan.errors import UserError
from fastinfogan.kernels.activation import LINEAR
from fastinfogan.kernels.dense.rule import fits
from fastinfogan.ranks.alone import ALONE, Ranks
from fastinfogan.ranks.place import Place
from fastinfogan.sizes import counted

_HALF_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Plan:
    """Decisions that depend on the machine; everything that runs an iteration reads them here.

    Attributes:
        device: where everything lives.
        half: what ``--amp`` computes the passes in; None computes in float32.
        emulated: the device has no arithmetic for ``half``, and is slower with it.
        compile: torch.compile what lies between the kernels.
        plain: why a GPU runs plain PyTorch in the place of our kernels; "" if it runs them.
        graphs: record iterations as CUDA graphs and replay those.
        small: ``--amp`` was asked for, and float32 is faster for networks as small as these.
        advice: what would make a run faster here, for whoever begins one; "" if nothing.
        ranks: the processes that train together; each has its share of every batch.
        sync_batchnorm: normalise with the statistics of the whole batch, not of the rank's share.
        sent_in: what gradients are rounded to where ranks send them; None: they are not.
    """

    device: torch.device
    half: torch.dtype | None = None
    emulated: bool = False
    compile: bool = False
    plain: str = ""
    graphs: bool = False
    advice: str = ""
    small: bool = False
    ranks: Ranks = ALONE
    sync_batchnorm: bool = True
    sent_in: torch.dtype | None = None

    @property
    def exchange(self) -> Callable[[Tensor], Tensor] | None:
        """How batchnorm gets the sums of all ranks; None: its own are all that it needs."""
        return self.ranks.gather if self.ranks.size > 1 and self.sync_batchnorm else None

    @property
    def input_dtype(self) -> torch.dtype:
        """What images and latents come in."""
        return torch.float32 if self.half is None else self.half

    def describe(self) -> str:
        """One phrase for the start of a run: the device, its arithmetic, how iterations are run."""
        arithmetic = "float32" + " (--amp is slower for networks this small)" * self.small
        if self.half is not None:
            arithmetic = f"mixed {str(self.half).removeprefix('torch.')} and float32"
            arithmetic += " (emulated: slower than float32)" * self.emulated
        return (
            f"{devices.describe_device(self.device)}, {arithmetic}"
            + ", compiled (the first iteration takes longer)" * self.compile
            + f", plain PyTorch instead of our kernels ({self.plain})" * bool(self.plain)
            + ", CUDA graphs" * self.graphs
            + (f", {self.ranks.describe()}" if self.ranks.size > 1 else "")
            + ", each with batchnorm statistics of its own"
            * (self.ranks.size > 1 and not self.sync_batchnorm)
            + ", gradients sent in bfloat16" * (self.ranks.size > 1 and self.sent_in is not None)
        )


def make_plan(run: RunConfig, ranks: Ranks = ALONE, small: bool = False) -> Plan:
    """Decide for this machine what ``run`` leaves open.

    The reference engine stays plain: no half precision, nothing compiled, no graphs.

    Args:
        run: where and how to run.
        ranks: that train together.
        small: see ``are_small``: then a CPU computes in float32, unless a type is named.

    Raises:
        UserError: something asked for that this machine can't do, naming its flag.
    """
    device = devices.pick_device(run.device)
    if ranks.size > 1:
        device = _device_of_rank(run, device, ranks.place)
    on_gpu = device.type == "cuda"
    if run.cuda_graphs and not on_gpu:
        raise UserError(f"--cuda-graphs: it needs a GPU, and this run is on {device}")
    if run.engine == "reference":
        return Plan(device)
    small = small and not on_gpu and run.amp_dtype == "auto"
    half = half_type(device, run.amp_dtype) if run.amp and not small else None
    lacks = compiling.missing(device)
    if run.compile and lacks:
        raise UserError(f"--compile: {lacks}; leave it out")
    return Plan(
        device,
        half=half,
        emulated=half is not None and not on_gpu and not devices.cpu_has_bfloat16(),
        compile=run.compile,
        plain=lacks if on_gpu else "",
        # Plain ops wait for the device where they draw images, which can't be recorded.
        graphs=on_gpu and not lacks if run.cuda_graphs is None else run.cuda_graphs,
        advice="" if run.amp or small else _advice(device),
        small=run.amp and small,
        ranks=ranks,
        sync_batchnorm=run.sync_batchnorm,
        sent_in=None if run.reduce_dtype == "float32" else torch.bfloat16,
    )


def are_small(config: TrainConfig) -> bool:
    """Whether the networks are what ``kernels/dense`` multiplies, which a CPU does in float32.

    Args:
        config: resolved; only the preset's rows are looked at, whatever the images.
    """
    contrastive = config.optim.contrastive > 0
    rows = PRESETS[config.model.preset].architecture.rows(config.spec, contrastive)
    layers = [layer for stack in rows.values() for layer in stack]
    if not all(row.is_dense and row.activation != "tanh" for row, *_ in layers):
        return False
    shapes = [(row.features, math.prod(before)) for row, before, _ in layers]
    return fits(2 * config.optim.batch_size, shapes, [LINEAR] * len(shapes))


def _advice(device: torch.device) -> str:
    """That float32 leaves the fastest part of the device idle."""
    units = devices.half_precision_units(device)
    if not units:
        return ""
    on_gpu = device.type == "cuda"
    half = str(half_type(device) if on_gpu else torch.bfloat16).removeprefix("torch.")
    which = "GPU" if on_gpu else "CPU"
    return f"--amp would be faster: this {which} has {units} for {half}, idle in float32"


def _device_of_rank(run: RunConfig, device: torch.device, place: Place) -> torch.device:
    """A rank's own device: the GPU of its number on the machine, or the CPU.

    Raises:
        UserError: there are fewer GPUs than ranks, or what is asked for can't be shared.
    """
    if run.engine == "reference":
        raise UserError(f"--engine reference: it knows no ranks, and these are {place.size}")
    if device.type != "cuda":
        return device
    if run.device not in ("auto", "cuda"):
        raise UserError(f"--device {run.device}: each of several ranks takes its own; cuda works")
    if lacks := compiling.missing(device):
        raise UserError(f"WORLD_SIZE={place.size}: {lacks}, and ranks need Triton's batchnorm")
    count = torch.cuda.device_count()
    if place.local_rank >= count:
        raise UserError(
            f"--nproc-per-node {place.local_size}: this machine shows {counted(count, 'GPU')}, and "
            f"each rank takes one; {count} works, or --device cpu"
        )
    return torch.device("cuda", place.local_rank)


def half_type(device: torch.device, amp_dtype: str = "auto") -> torch.dtype:
    """What ``--amp`` computes in on a device: bfloat16, or float16 on older GPUs.

    Args:
        device: where.
        amp_dtype: as ``--amp-dtype``; a type named there is taken as it is.

    Raises:
        UserError: a CPU without bfloat16 arithmetic, and ``amp_dtype`` asks for no emulation.
    """
    if amp_dtype != "auto":
        return _HALF_TYPES[amp_dtype]
    if device.type == "cuda":
        has_bfloat16 = torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if has_bfloat16 else torch.float16
    if not devices.cpu_has_bfloat16():
        raise UserError(
            "--amp: this CPU has no bfloat16 arithmetic (AVX512-BF16, AMX, Arm's BF16); leave it "
            "out, or emulate it, slowly, with --amp-dtype bfloat16"
        )
    return torch.bfloat16
