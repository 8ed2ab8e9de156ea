"""conv on a GPU: the launchers of ``triton_maps.py`` and ``triton_weight.py``.

Patches are never made in memory: a program loads a tile of them at a time and multiplies it. That
is for tensor cores as Triton drives them, from compute capability 8.0 on; on older GPUs torch's own
convolutions do the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastinfogan.kernels.bn_act.layout import empty_partials
from fastinfogan.kernels.conv import library
from fastinfogan.kernels.conv.layout import (
    TAPS,
    empty_bias,
    empty_large,
    empty_small,
    empty_weight,
)
from fastinfogan.kernels.conv.sums import NO_SUMS, Sums, down_sums, sums_of, up_sums
from fastinfogan.kernels.conv.tiles import (
    MOST_TILES,
    Tile,
    image_tile,
    map_tile,
    multiplies,
    parts_of,
    sum_blocks,
    up_tile,
    weight_tile,
    whole_loads,
)
from fastinfogan.kernels.conv.triton_maps import (
    conv_down_kernel,
    conv_up_image_kernel,
    conv_up_kernel,
)
from fastinfogan.kernels.conv.triton_weight import conv_sum_kernel, conv_weight_kernel
from fastinfogan.kernels.triton_module import launch
from fastinfogan.kernels.triton_needs import power_of_two


def conv_down(
    large: Tensor, weight: Tensor, bias: Tensor | None, stride: int, activation: int, slope: float
) -> Tensor:
    """The small map of a large one."""
    if not multiplies(large.device):
        return library.conv_down(large, weight, bias, stride, activation, slope)
    small = empty_small(large, weight, stride)
    of_image = small.shape[2] * small.shape[3]
    tile = map_tile(_pixels(small), weight.shape[0], TAPS**2 * large.shape[1])
    for some, of_small in _launches(large, small, of_image, tile):
        _down(some, weight, bias, of_small, stride, activation, slope, tile, NO_SUMS)
    return small


def conv_down_sums(
    large: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    activation: int,
    slope: float,
    groups: int,
) -> tuple[Tensor, Tensor]:
    """The same, and its sums for a batchnorm; without parts where the library makes the map."""
    if not multiplies(large.device):
        small = library.conv_down(large, weight, bias, stride, activation, slope)
        return small, empty_partials(small, groups, 0)
    small = empty_small(large, weight, stride)
    pixels, features, k = _pixels(small), weight.shape[0], TAPS**2 * large.shape[1]
    tile, summed = map_tile(pixels, features, k), down_sums(pixels, features, k, groups)
    sums = sums_of(small, groups, summed, tile.columns)
    _down(large, weight, bias, small, stride, activation, slope, tile, sums)
    return small, sums.partials


def _down(
    large: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    small: Tensor,
    stride: int,
    activation: int,
    slope: float,
    tile: Tile,
    sums: Sums,
) -> None:
    features, pixels = small.shape[1], _pixels(small) // sums.groups
    launch(
        conv_down_kernel,
        (-(-features // tile.columns), -(-pixels // tile.rows) * sums.groups),
        large,
        weight,
        bias,
        small,
        *sums.memory,
        pixels,
        *sums.numbers,
        slope,
        **_sizes(large, small),
        STRIDE=stride,
        ACTIVATION=activation,
        BLOCK_PIXELS=tile.rows,
        BLOCK_FEATURES=tile.columns,
        BLOCK_K=tile.k,
        BLOCK_TILES=sums.block,
        **_compiled(tile),
    )


def conv_up(
    small: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    height: int,
    width: int,
    activation: int,
    slope: float,
) -> Tensor:
    """The large map, of this height and width, of a small one."""
    if not multiplies(small.device):
        return library.conv_up(small, weight, bias, stride, height, width, activation, slope)
    large = empty_large(small, weight, height, width)
    of_image = -(-height // stride) * -(-width // stride)
    places = small.shape[0] * of_image
    features, channels = weight.shape[:2]
    halves = -(-height // 2), -(-width // 2)
    image = image_tile(places, *halves, features) if stride == 2 and channels <= 4 else None
    if image is not None:
        launch(
            conv_up_image_kernel,
            (-(-places // image.own),),
            small,
            weight,
            bias,
            large,
            places,
            slope,
            **_sizes(large, small),
            ACTIVATION=activation,
            OWN_PIXELS=image.own,
            HALO=image.halo,
            BLOCK_PIXELS=image.rows,
            BLOCK_CHANNELS=power_of_two(channels),
            BLOCK_K=image.k,
            num_warps=8,
            num_stages=2,
        )
        return large
    tile = up_tile(places, stride, channels, features)
    for of_large, some in _launches(large, small, of_image, tile):
        _up(some, weight, bias, of_large, stride, activation, slope, tile, NO_SUMS)
    return large


def conv_up_sums(
    small: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    activation: int,
    slope: float,
    groups: int,
) -> tuple[Tensor, Tensor]:
    """The large map, ``stride`` times as high and wide, and its sums as of ``conv_down_sums``."""
    height, width = small.shape[2] * stride, small.shape[3] * stride
    if not multiplies(small.device):
        large = library.conv_up(small, weight, bias, stride, height, width, activation, slope)
        return large, empty_partials(large, groups, 0)
    large = empty_large(small, weight, height, width)
    features, channels = weight.shape[:2]
    size = _pixels(small), stride, channels, features
    tile, summed = up_tile(*size), up_sums(*size, groups)
    sums = sums_of(large, groups, summed, tile.columns)
    _up(small, weight, bias, large, stride, activation, slope, tile, sums)
    return large, sums.partials


def _up(
    small: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    large: Tensor,
    stride: int,
    activation: int,
    slope: float,
    tile: Tile,
    sums: Sums,
) -> None:
    batch, channels, height, width = large.shape
    places = batch // sums.groups * -(-height // stride) * -(-width // stride)
    launch(
        conv_up_kernel,
        (-(-channels // tile.columns) * stride**2, -(-places // tile.rows) * sums.groups),
        small,
        weight,
        bias,
        large,
        *sums.memory,
        places,
        *sums.numbers,
        slope,
        **_sizes(large, small),
        STRIDE=stride,
        ACTIVATION=activation,
        BLOCK_PIXELS=tile.rows,
        BLOCK_CHANNELS=tile.columns,
        BLOCK_K=tile.k,
        BLOCK_TILES=sums.block,
        **_compiled(tile),
    )


def conv_weight(
    large: Tensor,
    small: Tensor,
    y: Tensor | None,
    slope: float,
    stride: int,
    dy_is_large: bool,
    with_bias: bool,
) -> tuple[Tensor, Tensor]:
    """The gradients of weight and bias; the latter is empty if it isn't wanted."""
    if not multiplies(large.device):
        return library.conv_weight(large, small, y, slope, stride, dy_is_large, with_bias)
    dy = large if dy_is_large else small
    weight, bias = empty_weight(large, small), empty_bias(dy, with_bias)
    features, columns, pixels = weight.shape[0], TAPS**2 * large.shape[1], _pixels(small)
    tile = weight_tile(features, columns, pixels)
    parts, per_part = parts_of(tile, features, columns, pixels)
    weights, biases = weight, bias
    if parts > 1:
        weights, biases = (
            result.new_empty((parts, result.numel()), dtype=torch.float32)
            for result in (weight, bias)
        )
    strip = min(64, max(16, power_of_two(dy.shape[1])))
    strips = -(-bias.numel() // strip)
    launch(
        conv_weight_kernel,
        (-(-features // tile.rows) * -(-columns // tile.columns) + strips, parts),
        large,
        small,
        y,
        weights,
        dy if with_bias else None,
        biases if with_bias else None,
        pixels,
        per_part,
        _pixels(dy),
        whole_loads(_pixels(dy), parts, tile.k),
        slope,
        **_sizes(large, small),
        STRIDE=stride,
        OUTPUTS=dy.shape[1],
        BLOCK_FEATURES=tile.rows,
        BLOCK_N=tile.columns,
        BLOCK_PIXELS=tile.k,
        BLOCK_OUTPUTS=strip,
        **_compiled(tile),
    )
    if parts > 1:
        blocks = sum_blocks(parts)
        launch(
            conv_sum_kernel,
            (-(-weight.numel() // blocks["BLOCK"]) + -(-bias.numel() // blocks["BLOCK"]),),
            weights,
            biases if with_bias else None,
            weight,
            bias,
            parts,
            weight.numel(),
            bias.numel(),
            **blocks,
        )
    return weight, bias


def _launches(
    large: Tensor, small: Tensor, of_image: int, tile: Tile
) -> list[tuple[Tensor, Tensor]]:
    """Both maps; some images at a time where all their rows are more tiles than a launch takes."""
    images = MOST_TILES * tile.rows // of_image
    if images >= large.shape[0]:
        return [(large, small)]
    return list(zip(large.split(images), small.split(images), strict=True))


def _pixels(maps: Tensor) -> int:
    return maps.numel() // maps.shape[1]


def _sizes(large: Tensor, small: Tensor) -> dict[str, int]:
    _, channels, height, width = large.shape
    _, features, rows, columns = small.shape
    return {
        "HEIGHT": height, "WIDTH": width, "CHANNELS": channels,
        "ROWS": rows, "COLUMNS": columns, "FEATURES": features,
    }  # fmt: skip


def _compiled(tile: Tile) -> dict[str, int]:
    # Left alone, ptxas aims at fewer registers, for more programs at a time, and spills.
    return {"num_warps": tile.warps, "num_stages": tile.stages, "maxnreg": 255}
