"""InfoGAN training that is fast, reliable and readable. Each name is imported when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastinfogan.config import (
        DataConfig,
        ModelConfig,
        OptimConfig,
        RunConfig,
        TrainConfig,
        resolve,
    )
    from fastinfogan.data import DATASETS, ImageData, dataset_status, load_images
    from fastinfogan.doctor import report
    from fastinfogan.errors import TrainingDiverged, UserError
    from fastinfogan.results.evaluate import Evaluation
    from fastinfogan.results.generator import TrainedGenerator
    from fastinfogan.results.generator_file import load_generator
    from fastinfogan.results.run import Run, load_run, open_generator
    from fastinfogan.training.trainer import train

_HOMES = {
    "fastinfogan.config": (
        "DataConfig", "ModelConfig", "OptimConfig", "RunConfig", "TrainConfig", "resolve",
    ),
    "fastinfogan.data": ("DATASETS", "ImageData", "dataset_status", "load_images"),
    "fastinfogan.doctor": ("report",),
    "fastinfogan.errors": ("TrainingDiverged", "UserError"),
    "fastinfogan.results.evaluate": ("Evaluation",),
    "fastinfogan.results.generator_file": ("load_generator",),
    "fastinfogan.results.generator": ("TrainedGenerator",),
    "fastinfogan.results.run": ("Run", "load_run", "open_generator"),
    "fastinfogan.training.trainer": ("train",),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "DATASETS", "DataConfig", "Evaluation", "ImageData", "ModelConfig", "OptimConfig", "Run",
    "RunConfig", "TrainConfig", "TrainedGenerator", "TrainingDiverged", "UserError",
    "dataset_status", "load_generator", "load_images", "load_run", "open_generator", "report",
    "resolve", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fastinfogan' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
