"""A generator without coordinates: the same images from rows that any reader of its file knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from fastinfogan.config import Architecture, Layer
from fastinfogan.model.block import places


def without_coordinates(
    architecture: Architecture, tensors: Mapping[str, Tensor]
) -> tuple[Architecture, dict[str, Tensor]]:
    """Write a layer that is the same at every position as one with weights for each of them.

    What it makes of x and y is a constant of each position then: of the bias or, where batchnorm
    follows, of the mean that this subtracts.

    Args:
        architecture: the generator's.
        tensors: its weights and running statistics (``weights``), of networks in evaluation.

    Returns:
        The architecture with ordinary rows for the generator, and their tensors.
    """
    rows, found = [], dict(tensors)
    for i, row in enumerate(architecture.generator):
        if row.coordinates:
            own = f"layers.{i}."
            here = {name: t for name, t in found.items() if name.startswith(own)}
            made = _expanded(row, {name.removeprefix(own): t for name, t in here.items()})
            found |= {own + name: tensor for name, tensor in made.items()}
            row = replace(row, features=row.features * row.positions, coordinates=False)
        rows.append(row)
    return replace(architecture, generator=tuple(rows)), found


def _expanded(row: Layer, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one row; features in (height, width, channel) order."""
    place = places(*row.shape[1:]).to(tensors["op.weight"]).flatten(2)[0].T  # (positions, 2)
    weight, by_place = tensors["op.weight"].tensor_split([-2], dim=1)
    offset = (place @ by_place.T).flatten()
    made = {"op.weight": weight.repeat(len(place), 1)}
    for name, tensor in tensors.items():
        if name != "op.weight":
            made[name] = tensor.repeat(len(place))
    if row.norm:
        made["norm.running_mean"] = made["norm.running_mean"] - offset
    else:
        made["op.bias"] = made["op.bias"] + offset
    return made
