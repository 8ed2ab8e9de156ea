"""conv on a GPU: the launchers of ``triton_maps.py``; ``triton_weight.py`` has its own.

Patches are never made in memory: a program loads a tile of them at a time and multiplies it. That
is for tensor cores as Triton drives them, from compute capability 8.0 on; on older GPUs torch's own
convolutions do the same.
"""

from __future__ import annotations

from torch import Tensor

from fastinfogan.kernels.activation import LINEAR, SLOPE, derived
from fastinfogan.kernels.bn_act.layout import empty_partials
from fastinfogan.kernels.channels_last import channels_last
from fastinfogan.kernels.conv import library
from fastinfogan.kernels.conv.follows import Follows
from fastinfogan.kernels.conv.layout import IMAGE_CHANNELS, TAPS, empty_large, empty_small
from fastinfogan.kernels.conv.sums import down_parts, up_parts
from fastinfogan.kernels.conv.tiles import (
    MOST_TILES,
    Tile,
    compiled,
    image_tile,
    map_tile,
    pixels_of,
    sizes_of,
    summed_tile,
    up_tile,
)
from fastinfogan.kernels.conv.triton_maps import (
    conv_down_kernel,
    conv_up_image_kernel,
    conv_up_kernel,
)
from fastinfogan.kernels.dispatch import multiplies
from fastinfogan.kernels.triton_module import launch


def conv_down(
    large: Tensor, weight: Tensor, bias: Tensor | None, stride: int, activation: int, slope: float
) -> Tensor:
    """The small map of a large one."""
    if not multiplies(large.device):
        return library.conv_down(large, weight, bias, stride, activation, slope)
    return _whole_down(large, weight, bias, stride, Follows(activation, slope))


def conv_down_derived(
    large: Tensor, weight: Tensor, stride: int, x: Tensor, slope: float
) -> Tensor:
    """The same without bias, as the gradient of what a slope made x of, which is like it."""
    if not multiplies(large.device):
        dx = library.conv_down(large, weight, None, stride, LINEAR, 1.0)
        return channels_last(derived(dx, x, SLOPE, slope))
    return _whole_down(large, weight, None, stride, Follows(LINEAR, 1.0, x, slope))


def _whole_down(
    large: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    follows: Follows,
) -> Tensor:
    """In several launches where one doesn't take as many images."""
    small = empty_small(large, weight, stride)
    of_image = small.shape[2] * small.shape[3]
    tile = map_tile(pixels_of(small), weight.shape[0], TAPS**2 * large.shape[1])
    for some, of_small, then in _launches(large, small, follows, of_image, tile):
        _down(some, weight, bias, of_small, stride, then, tile)
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
    """The same, and its sums for a batchnorm; without parts where that gathers them itself."""
    if not multiplies(large.device):
        small = library.conv_down(large, weight, bias, stride, activation, slope)
        return small, empty_partials(small, groups, 0)
    return _summed_down(large, weight, bias, stride, Follows(activation, slope), groups)


def conv_down_back(
    large: Tensor,
    weight: Tensor,
    stride: int,
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    stats: Tensor,
    slope: float,
    groups: int,
) -> tuple[Tensor, Tensor]:
    """The gradient of what a batchnorm and a slope made of x, and the sums that it asks for."""
    if not multiplies(large.device):
        small = library.conv_down(large, weight, None, stride, LINEAR, 1.0)
        return small, empty_partials(small, groups, 0)
    follows = Follows(LINEAR, 1.0, x, slope, (scale, shift, stats))
    return _summed_down(large, weight, None, stride, follows, groups)


def _summed_down(
    large: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    follows: Follows,
    groups: int,
) -> tuple[Tensor, Tensor]:
    small = empty_small(large, weight, stride)
    pixels, (features, channels) = pixels_of(small), weight.shape[:2]
    partials = empty_partials(small, groups, down_parts(pixels, features, channels, groups))
    if len(partials) == 0:
        return _whole_down(large, weight, bias, stride, follows.unsummed()), partials
    tile = summed_tile(pixels, features, TAPS**2 * channels)
    _down(large, weight, bias, small, stride, follows, tile, partials)
    return small, partials


def _down(
    large: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    small: Tensor,
    stride: int,
    follows: Follows,
    tile: Tile,
    partials: Tensor | None = None,
) -> None:
    features, groups = small.shape[1], _groups_of(partials)
    pixels = pixels_of(small) // groups
    launch(
        conv_down_kernel,
        (-(-features // tile.columns), -(-pixels // tile.rows) * groups),
        large,
        weight,
        bias,
        small,
        follows.before,
        *follows.normalised,
        partials,
        pixels,
        groups * features,
        follows.slope,
        follows.before_slope,
        **sizes_of(large, small),
        STRIDE=stride,
        ACTIVATION=follows.activation,
        BLOCK_PIXELS=tile.rows,
        BLOCK_FEATURES=tile.columns,
        BLOCK_K=tile.k,
        **compiled(tile, partials is not None),
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
    if stride == 2 and channels <= IMAGE_CHANNELS:
        tile = image_tile(places, features)
        launch(
            conv_up_image_kernel,
            (-(-places // tile.rows),),
            small,
            weight,
            bias,
            large,
            places,
            slope,
            **sizes_of(large, small),
            ACTIVATION=activation,
            BLOCK_PIXELS=tile.rows,
            BLOCK_K=tile.k,
            **compiled(tile),
        )
        return large
    return _whole_up(small, weight, bias, large, stride, Follows(activation, slope))


def conv_up_derived(small: Tensor, weight: Tensor, stride: int, x: Tensor, slope: float) -> Tensor:
    """The same without bias, as the gradient of what a slope made x of, which is like it."""
    if not multiplies(small.device):
        dx = library.conv_up(small, weight, None, stride, *x.shape[2:], LINEAR, 1.0)
        return channels_last(derived(dx, x, SLOPE, slope))
    large = empty_large(small, weight, *x.shape[2:])
    return _whole_up(small, weight, None, large, stride, Follows(LINEAR, 1.0, x, slope))


def _whole_up(
    small: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    large: Tensor,
    stride: int,
    follows: Follows,
) -> Tensor:
    """In several launches where one doesn't take as many images."""
    features, channels = weight.shape[:2]
    of_image = -(-large.shape[2] // stride) * -(-large.shape[3] // stride)
    tile = up_tile(small.shape[0] * of_image, stride, channels, features)
    for some, of_large, then in _launches(small, large, follows, of_image, tile):
        _up(some, weight, bias, of_large, stride, then, tile)
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
    return _summed_up(small, weight, bias, stride, Follows(activation, slope), groups)


def conv_up_back(
    small: Tensor,
    weight: Tensor,
    stride: int,
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    stats: Tensor,
    slope: float,
    groups: int,
) -> tuple[Tensor, Tensor]:
    """As ``conv_down_back``; x is ``stride`` times as high and wide as the small map."""
    if not multiplies(small.device):
        large = library.conv_up(small, weight, None, stride, *x.shape[2:], LINEAR, 1.0)
        return large, empty_partials(large, groups, 0)
    follows = Follows(LINEAR, 1.0, x, slope, (scale, shift, stats))
    return _summed_up(small, weight, None, stride, follows, groups)


def _summed_up(
    small: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    follows: Follows,
    groups: int,
) -> tuple[Tensor, Tensor]:
    large = empty_large(small, weight, small.shape[2] * stride, small.shape[3] * stride)
    features, channels = weight.shape[:2]
    size = pixels_of(small), stride, channels, features
    partials = empty_partials(large, groups, up_parts(*size, groups))
    if len(partials) == 0:
        return _whole_up(small, weight, bias, large, stride, follows.unsummed()), partials
    _up(small, weight, bias, large, stride, follows, up_tile(*size), partials)
    return large, partials


def _up(
    small: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    large: Tensor,
    stride: int,
    follows: Follows,
    tile: Tile,
    partials: Tensor | None = None,
) -> None:
    batch, channels, height, width = large.shape
    groups = _groups_of(partials)
    places = batch // groups * -(-height // stride) * -(-width // stride)
    launch(
        conv_up_kernel,
        (-(-channels // tile.columns) * stride**2, -(-places // tile.rows) * groups),
        small,
        weight,
        bias,
        large,
        follows.before,
        *follows.normalised,
        partials,
        places,
        groups * channels,
        follows.slope,
        follows.before_slope,
        **sizes_of(large, small),
        STRIDE=stride,
        ACTIVATION=follows.activation,
        BLOCK_PIXELS=tile.rows,
        BLOCK_CHANNELS=tile.columns,
        BLOCK_K=tile.k,
        **compiled(tile, partials is not None),
    )


def _groups_of(partials: Tensor | None) -> int:
    """Parts of the batch that are summed up apart."""
    return 1 if partials is None else partials.shape[2]


def _launches(
    read: Tensor, written: Tensor, follows: Follows, of_image: int, tile: Tile
) -> list[tuple[Tensor, Tensor, Follows]]:
    """All maps; some images at a time where all their rows are more tiles than a launch takes."""
    images = MOST_TILES * tile.rows // of_image
    if images >= read.shape[0]:
        return [(read, written, follows)]
    parts = list(zip(read.split(images), written.split(images), strict=True))
    if follows.before is None:
        return [(*part, follows) for part in parts]
    befores = follows.before.split(images)
    return [(*part, follows._replace(before=b)) for part, b in zip(parts, befores, strict=True)]
