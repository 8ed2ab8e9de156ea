"""How much memory training takes, as far as shapes tell."""

from __future__ import annotations

import math

import torch

from fastinfogan.config import TrainConfig
from fastinfogan.device import total_memory


def fitting(config: TrainConfig, device: torch.device) -> str:
    """What to do where memory is too small for a configuration, in words."""
    batch = fitting_batch(config, device)
    if batch < 2:  # batchnorm needs two
        return "no batch fits; free some memory, or choose smaller networks with --preset"
    return f"about {batch} should fit"


def fitting_batch(config: TrainConfig, device: torch.device) -> int:
    """A batch that should fit in the device's memory: a power of two below the one that doesn't.

    Counts weights, gradients and moments (20 bytes a parameter with a half-precision copy), their
    means, and for each image the outputs of every layer, their gradients, and as much again for
    what libraries need on the way. A checkpoint that is being written is there twice, copied and as
    a file's content, but never on a GPU.
    """
    memory = total_memory(device)
    rows = config.rows
    layers = [layer for stack in rows.values() for layer in stack]
    means = 4 if config.optim.average else 0
    saving = 2 * (12 + means) if device.type == "cpu" else 0
    fixed = (20 + means + saving) * sum(row.parameters(before) for row, before, _ in layers)
    # D sees a real and a fake image for every one that G makes, and the contrastive regulariser's
    # network a pair for every two. The orthogonal one has G make as many more.
    seen = {"generator": 2.0 if config.optim.orthogonal > 0 else 1.0, "contrast": 0.5}
    outputs = sum(
        math.prod(after) * seen.get(name, 2.0)
        for name, stack in rows.items()
        for _, _, after in stack
    )
    per_image = 3 * 4 * outputs
    most = max(2, int((0.8 * memory - fixed) / per_image))
    return 2 ** int(math.log2(min(most, config.optim.batch_size / 2, 2**20)))
