"""Builds the engine that a configuration asks for, its weights fixed by the seed."""

from __future__ import annotations

from typing import Any

import torch

from fastinfogan.config import TrainConfig
from fastinfogan.engine.kept_memory import keep_freed_memory
from fastinfogan.engine.step import FastEngine
from fastinfogan.model.initial import Undrawn, initialize
from fastinfogan.model.reference import ReferenceEngine
from fastinfogan.plan import Plan

Engine = FastEngine | ReferenceEngine


def build_engine(config: TrainConfig, plan: Plan, **parts: Any) -> Engine:
    """The engine of a resolved configuration.

    Args:
        config: resolved.
        plan: for the machine.
        parts: other parts for the fast engine than its own (see ``FastEngine``).
    """
    if plan.device.type == "cuda":
        if plan.device.index is not None:  # streams, graphs and Triton go by the current device
            torch.cuda.set_device(plan.device)
        # The same run twice gives the same bits, and "float32" means float32, not TF32.
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False
    plan.ranks.connect(plan.device)
    fast = config.run.engine == "fast"
    if fast and plan.device.type == "cpu":
        keep_freed_memory()
    with Undrawn():
        engine = FastEngine(config, plan, **parts) if fast else ReferenceEngine(config, plan.device)
    random = torch.Generator().manual_seed(config.run.seed)
    initialize(engine.generator, config.architecture, random)
    initialize(engine.discriminator, config.architecture, random)
    if fast:
        engine.publish()
    return engine
