"""Generator files for tests: random weights, exported."""

from __future__ import annotations

import math

import torch

from fastinfogan.config import preset_config
from fastinfogan.model.networks import Generator
from fastinfogan.results.generator_file import export_generator


def randomized(generator, seed=0):
    """Weights that carry a signal to the output, and running statistics that matter, eval mode."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in generator.state_dict().items():
            if name.endswith("op.weight"):
                # He et al. 2015; an upconv of stride s adds up 16 / s^2 taps of each input channel.
                fan_in = tensor.shape[1] if tensor.dim() == 2 else tensor.shape[0] * 4
                tensor.normal_(0.0, math.sqrt(2.0 / fan_in), generator=random)
            elif name.endswith(("norm.weight", "running_var")):
                tensor.uniform_(0.5, 2.0, generator=random)
            elif name.endswith(("bias", "running_mean")):
                tensor.normal_(0.0, 0.3, generator=random)
    return generator.eval()


def exported(tmp_path, preset, kind=None, **options):
    """A file of a preset, and the generator and configuration behind it."""
    config = preset_config(preset)
    if kind is None:
        generator = Generator(config.architecture, config.spec)
    else:
        generator = kind(config)
    path = tmp_path / "generator.safetensors"
    export_generator(path, randomized(generator), config, iteration=7, **options)
    return path, generator, config
