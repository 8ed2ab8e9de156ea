"""Where the sums go that conv finds, on a GPU, for a batchnorm before or behind it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastinfogan.kernels.bn_act.layout import empty_partials
from fastinfogan.kernels.conv.layout import IMAGE_CHANNELS
from fastinfogan.kernels.conv.tiles import LEAST_ROWS, MOST_TILES, summed_tile, tiles, up_tile
from fastinfogan.kernels.triton_needs import power_of_two

FEW_PARTS, MOST_JOINED = 32, 32  # parts of a group's sums; tiles of each


def summable(large: Sequence[int], stride: int, transposed: bool) -> bool:
    """Whether sums can come with the map that a convolution makes.

    Not with images, whose kernel has none, nor where a map takes several launches.
    """
    batch, channels, height, width = large
    if transposed and channels <= IMAGE_CHANNELS:
        return False
    return batch * (height // stride + 1) * (width // stride + 1) <= MOST_TILES * LEAST_ROWS


class Summed(NamedTuple):
    """How the pixels of a map are summed up, group by group, for the batchnorm it goes to.

    That is the one behind the map, or, of a gradient that goes back, the one in front.

    Attributes:
        tiles: of a group.
        each: tiles that make a part.
        parts: of a group.
    """

    tiles: int
    each: int
    parts: int


def down_sums(pixels: int, features: int, k: int, groups: int) -> Summed:
    """Of what ``down`` makes: (pixels, features), from patches of k numbers."""
    return _summed(tiles(pixels // groups, 1, summed_tile(pixels, features, k).rows, 1))


def up_sums(places: int, stride: int, channels: int, features: int, groups: int) -> Summed:
    """Of what ``up`` makes; each parity has tiles of its own."""
    rows = up_tile(places, stride, channels, features).rows
    return _summed(tiles(places // groups, 1, rows, 1) * stride**2)


def _summed(count: int) -> Summed:
    each = min(MOST_JOINED, -(-count // FEW_PARTS))
    return Summed(count, each, -(-count // each))


class Sums(NamedTuple):
    """Where a map's sums go, as the kernels take it.

    Attributes:
        groups: parts of the batch that are normalised apart.
        memory: partials, scratch and counters.
        numbers: tiles of a group, tiles of a part, and groups times channels.
        block: tiles of a part, to a power of two.
    """

    groups: int
    memory: tuple[Tensor | None, Tensor | None, Tensor | None]
    numbers: tuple[int, int, int]
    block: int

    @property
    def partials(self) -> Tensor:
        """(parts, 3, groups, channels) float32: count, mean, M2; or ``bn_act``'s backward sums."""
        return self.memory[0]


NO_SUMS = Sums(1, (None, None, None), (0, 0, 0), 1)


def sums_of(maps: Tensor, groups: int, summed: Summed, strip: int) -> Sums:
    """Memory for the sums of a map, whose programs have ``strip`` channels each."""
    partials, scratch, counters = empty_partials(maps, groups, summed.parts), None, None
    channels = maps.shape[1]
    if summed.each > 1:
        scratch = empty_partials(maps, groups, summed.tiles)
        strips = -(-channels // strip)
        stream = torch.cuda.current_stream(maps.device).cuda_stream if maps.is_cuda else 0
        size = max(1024, power_of_two(strips * groups * summed.parts))
        counters = _counters(size, maps.device, stream)
    numbers = summed.tiles, summed.each, groups * channels
    return Sums(groups, (partials, scratch, counters), numbers, power_of_two(summed.each))


@functools.cache  # for good: a CUDA graph has the addresses
def _counters(size: int, device: torch.device, stream: int) -> Tensor:
    """Zeros. Launches of one stream share them; streams do not."""
    return torch.zeros(size, dtype=torch.int32, device=device)
