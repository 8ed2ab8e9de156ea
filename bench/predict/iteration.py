"""One iteration of a preset on tensors without data: everything that a GPU would be asked for."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bench.predict.library import launches_of
from bench.predict.work import Work
from bench.runner import draws_of
from fastinfogan.config import preset_config
from fastinfogan.engine.step import FastEngine
from fastinfogan.kernels import triton_module
from fastinfogan.kernels.triton_module import Launch
from fastinfogan.plan import Plan
from fastinfogan.training.metrics import Window


@dataclass(frozen=True)
class Iteration:
    """What one iteration launches.

    Attributes:
        library: torch's operations.
        ours: launches of our Triton kernels.
    """

    library: list[Work] = field(default_factory=list)
    ours: list[Launch] = field(default_factory=list)

    @property
    def launches(self) -> int:
        """Nodes of the graph of one iteration."""
        return len(self.library) + len(self.ours)


def count(preset: str, half: torch.dtype | None = torch.bfloat16, **optim: Any) -> Iteration:
    """Run one iteration, not compiled, as the trainer does it.

    Args:
        preset: its name.
        half: what the passes are computed in, as with ``--amp``; None: float32.
        optim: other settings of ``OptimConfig`` than the preset's.
    """
    config = preset_config(preset)
    config = replace(config, optim=replace(config.optim, **optim))
    plan = Plan(torch.device("meta"), half=half)
    engine = FastEngine(config, plan)
    draws = draws_of(config, plan.device, plan.input_dtype)
    draws.beside(engine)
    window = Window(config.spec, plan.device, config.optim.extra_losses)
    window.beside(engine)
    found = Iteration()
    for recorder in (contextlib.nullcontext(), _Recorder(found.library)):  # first come tables
        triton_module.recorded.clear()
        with recorder:
            window.add(engine.step(draws.next()))
    found.ours.extend(launch.on(90) for launch in triton_module.recorded)
    triton_module.recorded.clear()
    return found


class _Recorder(TorchDispatchMode):
    """Notes what operations launch, and keeps no tensor: autograd copies what somebody holds."""

    def __init__(self, works: list[Work]) -> None:
        super().__init__()
        self._works = works

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        if function is torch.ops.aten.convolution.default and any(map(_by_pixel, args[:2])):
            # So cuDNN does it; without data the result is planar.
            out = out.contiguous(memory_format=torch.channels_last)
        self._works += launches_of(function, args, out)
        return out


def _by_pixel(maps: torch.Tensor) -> bool:
    return maps.is_contiguous(memory_format=torch.channels_last)
