"""A generator's file with weights of two bytes, where nobody could see the difference.

A layer's weights become whole numbers from -32767 to 32767, and one scale for each of its outputs.
Half precision takes as many bytes and is several times as coarse at a layer's usual weights, since
it spends five of its bits on magnitudes that they don't have.
"""

from __future__ import annotations

import torch
from safetensors.torch import load, save
from torch import Tensor

from fastinfogan.model.latent_spec import LatentSpec
from fastinfogan.results.eval_mode import eval_device
from fastinfogan.results.generator import TrainedGenerator
from fastinfogan.results.generator_file import metadata_of, read_generator, with_sorted_header

MOST_CHANGE = 1.0  # of a pixel, of 255 from black to white
COMPARED = 128  # images; half of them have continuous codes twice as far out as training draws them
_LARGEST = 32767


def packed(content: bytes, trained: TrainedGenerator) -> tuple[bytes, str]:
    """The file as the page holds it, and how exact that is, in words.

    Args:
        content: of a generator.safetensors.
        trained: the generator in it, in eval mode, on any device.

    Returns:
        A file with the layers' weights as int16, NAME, and float32, NAME.scale, and without a
        digest (int16 is none of the format's words: it is for the page alone); or ``content``
        where a pixel would change by more than ``MOST_CHANGE``.
    """
    tensors, seen = {}, {}
    for name, tensor in load(content).items():
        tensors[name] = seen[name] = tensor
        if name.endswith("op.weight"):
            tensors[name], scale = _whole_numbers(tensor)
            tensors[f"{name}.scale"] = scale
            seen[name] = tensors[name].float() * _beside(scale, tensor)
    rounded = read_generator(content, eval_device(trained.generator)).generator
    rounded.load_state_dict(seen, strict=False)
    low, high = trained.output_range
    inputs = _inputs(trained.spec).to(eval_device(trained.generator))
    with torch.no_grad():
        apart = (trained.generator(inputs) - rounded(inputs)).abs().max().item()
    change = 255 * apart / (high - low)
    if not change <= MOST_CHANGE:  # nor NaN
        return content, "as exact as the file: 32 bits a weight"
    words = {key: word for key, word in metadata_of(content).items() if key != "sha256"}
    return with_sorted_header(save(tensors, words)), (
        f"16 bits a weight, which moved no pixel of {COMPARED} images by more than "
        f"{max(change, 0.01):.2f} of 255 levels"
    )


def _whole_numbers(weight: Tensor) -> tuple[Tensor, Tensor]:
    """int16 like ``weight``, and float32 (outputs,), whose product it is, nearly."""
    inside = [d for d in range(weight.dim()) if d != _outputs(weight)]
    most = weight.abs().amax(inside)
    scale = (most / _LARGEST).clamp_min(torch.finfo(torch.float32).tiny)
    return (weight / _beside(scale, weight)).round().to(torch.int16), scale


def _outputs(weight: Tensor) -> int:
    """Where a weight has its outputs: (out, in), or (in, out, height, width)."""
    return 0 if weight.dim() == 2 else 1


def _beside(scale: Tensor, weight: Tensor) -> Tensor:
    shape = [1] * weight.dim()
    shape[_outputs(weight)] = -1
    return scale.view(shape)


def _inputs(spec: LatentSpec) -> Tensor:
    noise, values = spec.sample(COMPARED, seed=0, offset=0)
    for i, code in enumerate(spec.codes):
        if not code.is_discrete:
            values[COMPARED // 2 :, i] *= 2
    return spec.assemble(noise, values)
