"""Whether conv finds, on a GPU, the sums for a batchnorm before or behind it; in how many parts."""

from __future__ import annotations

from fastinfogan.kernels.conv.layout import IMAGE_CHANNELS, TAPS
from fastinfogan.kernels.conv.tiles import summed_tile, tiles, up_tile

# Tiles of a group, each of which is a part: whoever adds them up has all in its registers. To join
# more of them first, by the last program of some, took 2.5 to 20 us on an H200 (docs/log.md).
MOST_PARTS = 128


def down_parts(pixels: int, features: int, channels: int, groups: int) -> int:
    """Of what ``down`` makes, (pixels, features), from patches of a large map of so many channels.

    0: batchnorm gathers the sums itself.
    """
    rows = summed_tile(pixels, features, TAPS**2 * channels).rows
    return _few(tiles(pixels // groups, 1, rows, 1))


def up_parts(places: int, stride: int, channels: int, features: int, groups: int) -> int:
    """Of what ``up`` makes; each parity has tiles of its own. Images' own kernel finds none."""
    if channels <= IMAGE_CHANNELS:
        return 0
    rows = up_tile(places, stride, channels, features).rows
    return _few(tiles(places // groups, 1, rows, 1) * stride**2)


def _few(parts: int) -> int:
    return parts if parts <= MOST_PARTS else 0
