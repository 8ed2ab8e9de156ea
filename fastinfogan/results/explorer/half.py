"""A generator's file in half precision, where nobody could see the difference."""

from __future__ import annotations

import copy

import torch
from safetensors.torch import load, save
from torch import Tensor

from fastinfogan.model.latent_spec import LatentSpec
from fastinfogan.results.generator import TrainedGenerator
from fastinfogan.results.generator_file import metadata_of, with_sorted_header

MOST_CHANGE = 1 / 255  # of a pixel, between black and white
COMPARED = 128  # images; half of them have continuous codes twice as far out as training draws them


def halved(content: bytes, trained: TrainedGenerator) -> bytes | None:
    """The file with the layers' weights as float16; the rest stays float32.

    Args:
        content: of a generator.safetensors.
        trained: the generator in it, in eval mode.

    Returns:
        A file without a digest (float16 is none of the format's words: it is for the page alone),
        or None where a pixel would change by more than ``MOST_CHANGE``.
    """
    tensors = {
        name: tensor.half() if name.endswith("op.weight") else tensor
        for name, tensor in load(content).items()
    }
    rounded = copy.deepcopy(trained.generator)
    rounded.load_state_dict({name: t.float() for name, t in tensors.items()}, strict=False)
    low, high = trained.output_range
    inputs = _inputs(trained.spec)
    with torch.no_grad():
        change = (trained.generator(inputs) - rounded(inputs)).abs().max() / (high - low)
    if not change <= MOST_CHANGE:  # nor NaN: a weight may be too large for half precision
        return None
    words = {key: word for key, word in metadata_of(content).items() if key != "sha256"}
    return with_sorted_header(save(tensors, words))


def _inputs(spec: LatentSpec) -> Tensor:
    noise, values = spec.sample(COMPARED, seed=0, offset=0)
    for i, code in enumerate(spec.codes):
        if not code.is_discrete:
            values[COMPARED // 2 :, i] *= 2
    return spec.assemble(noise, values)
