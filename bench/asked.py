"""What the presets and datasets ask of every op: shapes, codes, sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from fastinfogan.config import (
    PRESETS,
    Layer,
    Preset,
    Shape,
    folder_architecture,
    sprites_architecture,
)
from fastinfogan.data import DATASETS
from fastinfogan.engine.pairs import codes_of_pairs
from fastinfogan.kernels.codes import MAX_CATEGORIES, MAX_CODES, Code
from fastinfogan.kernels.linear import layout
from fastinfogan.model.latent_spec import LatentSpec, make_spec
from fastinfogan.model.networks import Discriminator, Generator

BATCH = 128
FOLDER_SIZES = (16, 32, 64, 128)  # --image-size of the preset "folder", which has one of its own
# How many images there are: Triton compiles multiples of 16 and other numbers apart.
IMAGE_COUNTS = (60_000, 73_257)


def bn_act_shapes() -> list[tuple[int, int]]:
    """(rows x pixels of one group, channels) of every normalised layer at batch 128."""
    found = set()
    for layer, _, shape in _layers(FOLDER_SIZES):
        # A fully connected layer is normalised before it becomes a map.
        pixels = layer.positions if layer.kind == "fc" else shape[1] * shape[2]
        if layer.norm:
            found.add((BATCH * pixels, layer.features))
    return sorted(found)


def conv_layers() -> list[tuple[Shape, Layer, Layer | None]]:
    """Every convolution of the presets, with the shape of its input without the batch.

    And with the convolution before it, whose batchnorm or slope it looks after, if there is one.
    """
    found, last = set(), None
    for layer, before, _ in _layers(()):
        if layer.kind != "fc":
            looked_after = last is not None and last.kind != "fc" and not layer.coordinates
            found.add((layer.reads(before), layer, last if looked_after else None))
        last = layer
    return sorted(found, key=str)


def layers_of_maps() -> list[tuple[int, Shape]]:
    """Outputs and (C, H, W) of every fully connected layer with batchnorm that follows another."""
    found, last, handed = set(), None, None
    for layer, before, after in _layers(()):
        if layer.kind == "fc" and layer.norm and before == handed and not layer.coordinates:
            if last is not None and last.kind != "fc" and last.norm:
                found.add((layer.features, before))
        last, handed = layer, after
    return sorted(found)


def _layers(folder_sizes: tuple[int, ...]) -> Iterator[tuple[Layer, Shape, Shape]]:
    """Of all presets, and of folders of these sizes, with the shapes of input and output."""
    tables = [
        preset.architecture.rows(_spec_of(preset), preset.contrastive > 0)
        for preset in PRESETS.values()
    ]
    spec = _spec_of(PRESETS["folder"])
    tables += [folder_architecture(size, 3).rows(spec) for size in folder_sizes]
    tables.append(sprites_architecture(64, 1).rows(_spec_of(PRESETS["sprites"])))
    for rows in tables:
        for stack in rows.values():
            yield from stack


def linear_shapes() -> list[tuple[int, int]]:
    """(outputs, inputs) of every fully connected layer that is small enough for our kernels."""
    return sorted({shape for _, shape, _ in _fully_connected() if layout.is_small(shape)})


def first_layers() -> list[tuple[int, int]]:
    """(outputs, inputs) of every G's first layer that a library can't read in whole vectors."""
    generators = {shape for _, shape, stack in _fully_connected() if stack == "generator"}
    return sorted(filter(layout.is_odd, generators))


def normalised_layers() -> list[tuple[int, int, str]]:
    """(outputs, inputs) of every fully connected layer with batchnorm, and the stack it is of."""
    return sorted(
        {
            (*shape, stack)
            for layer, shape, stack in _fully_connected()
            if layer.norm and not layer.coordinates
        }
    )


def _fully_connected() -> Iterator[tuple[Layer, tuple[int, int], str]]:
    """Every such layer of the presets, its (outputs, inputs), and the stack it is of."""
    for preset in PRESETS.values():
        for stack, rows in preset.architecture.rows(_spec_of(preset)).items():
            for layer, before, _ in rows:
                if layer.kind == "fc":
                    yield layer, (layer.features, math.prod(before)), stack


def adam_sizes() -> tuple[int, ...]:
    """Numbers in each parameter of the network with the most parameters, in their order."""
    found = []
    for preset in PRESETS.values():
        spec = _spec_of(preset)
        with torch.device("meta"):
            networks = (
                Generator(preset.architecture, spec),
                Discriminator(preset.architecture, spec, separate_q=False),
            )
        found += [tuple(p.numel() for p in network.parameters()) for network in networks]
    return max(found, key=lambda sizes: (len(sizes), sum(sizes)))


def latent_specs() -> list[LatentSpec]:
    """Noise and codes of every preset, also as the contrastive regulariser has them drawn."""
    specs = [_spec_of(preset) for preset in PRESETS.values()]
    paired = [_spec_of(preset) for preset in PRESETS.values() if preset.contrastive > 0]
    specs += [LatentSpec(spec.noise, codes_of_pairs(spec)) for spec in paired]
    return list(dict.fromkeys(specs))


def loss_codes() -> list[tuple[Code, ...]]:
    """The codes of every preset, and the most that --codes takes."""
    largest = (Code("categorical", MAX_CATEGORIES),) * MAX_CODES
    return [*dict.fromkeys(_spec_of(preset).codes for preset in PRESETS.values()), largest]


def image_shapes() -> list[tuple[int, int, int]]:
    """(height, width, channels) of every dataset's images, folders of any size included."""
    found = {dataset.image_shape for dataset in DATASETS.values()} - {None}
    found |= {(channels, size, size) for size in FOLDER_SIZES for channels in (1, 3)}
    return sorted((height, width, channels) for channels, height, width in found)


def _spec_of(preset: Preset) -> LatentSpec:
    return make_spec(preset.noise, preset.codes)
