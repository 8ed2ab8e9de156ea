"""The configuration: rows, presets, the tree that is the command line, and how it is resolved."""

from fastinfogan.config.layers import (
    ADAM_EPS,
    INIT_STD,
    KERNEL,
    LEAK,
    NORM_EPS,
    NORM_MOMENTUM,
    SLOPES,
    Activation,
    Architecture,
    Layer,
    Shape,
    conv,
    everywhere,
    fc,
    upconv,
)
from fastinfogan.config.presets import (
    PRESETS,
    Preset,
    folder_architecture,
    sprites_architecture,
)
from fastinfogan.config.resolution import preset_config, resolve
from fastinfogan.config.serialization import differences, flag_of, from_dict, other_experiment
from fastinfogan.config.tree import (
    RESUMABLE_CHANGES,
    DataConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrainConfig,
    to_dict,
    unset_as,
)

__all__ = [
    "ADAM_EPS", "INIT_STD", "KERNEL", "LEAK", "NORM_EPS", "NORM_MOMENTUM", "PRESETS",
    "RESUMABLE_CHANGES", "SLOPES", "Activation", "Architecture", "DataConfig", "Layer",
    "ModelConfig", "OptimConfig", "Preset", "RunConfig", "Shape", "TrainConfig", "conv",
    "differences", "everywhere", "fc", "flag_of", "folder_architecture", "from_dict",
    "other_experiment", "preset_config", "resolve", "sprites_architecture", "to_dict", "unset_as",
    "upconv",
]  # fmt: skip
