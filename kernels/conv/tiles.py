"""How conv's Triton kernels cut their work into tiles: by shapes alone, never by timing.

Each rule takes what was fastest, or nearly, on an H200 in the layers of `mnist`, `celeba` and
`chairs-rotation` (docs/kernels.md). Large tiles load less from the second-level cache, small ones
keep all SMs busy where there is little to do.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastinfogan.kernels.triton_needs import power_of_two

DTYPES = (torch.bfloat16, torch.float16)  # float32 is the library's
SMS = 132  # of an H100 or H200
WAVE = 8  # SMs that may stay idle
MOST_TILES = 65_535  # programs that a GPU takes along a grid's second axis


class Tile(NamedTuple):
    """Rows and columns of a program's result, what it multiplies at a time, and how.

    Attributes:
        rows, columns: of the product; powers of two, 16 or more.
        k: how many numbers of each row and column are loaded at a time.
        warps, stages: Triton's own.
    """

    rows: int
    columns: int
    k: int
    warps: int = 4
    stages: int = 3


def map_tile(rows: int, columns: int, k: int, widest: int = 256) -> Tile:
    """Of a product that makes maps, (rows, k) (k, columns).

    ``up``, which keeps track of more, spills registers where it is wider than 128.
    """
    wide = max(16, min(128, power_of_two(columns)))
    if k <= 64:  # all of it at a time
        deep = max(16, power_of_two(k))
        return Tile(64 if deep == 16 else 128, min(64, wide), deep, 4, 2)
    deep = min(64, power_of_two(k))
    if wide < 128:
        large = tiles(rows, columns, 128, wide) >= 2 * SMS - WAVE
        return Tile(128, wide, deep, 8, 4) if large else Tile(64, wide, deep, 4, 4)
    if columns >= widest > 128 and tiles(rows, columns, 128, 256) >= SMS - WAVE:
        return Tile(128, 256, deep, 8, 3)
    found = tiles(rows, columns, 128, 128)
    if found < SMS - WAVE:
        return Tile(64, 64, deep, 4, 4)
    return Tile(128, 128, deep, 8, 3 if found >= 2 * SMS - WAVE else 4)


def up_tile(places: int, stride: int, channels: int, features: int) -> Tile:
    """Of ``up``'s product, of places with a pixel of each parity.

    It loads features tap by tap, so that few of them make no short product: cut as one, its tiles
    spilled registers on compute capability 8.0.
    """
    taps = (4 // stride) ** 2
    tile = map_tile(places * stride**2, channels, taps * features, widest=128)
    return tile._replace(k=min(tile.k, max(16, power_of_two(features))))


def summed_tile(pixels: int, features: int, k: int) -> Tile:
    """Of ``down``'s product where sums are found as well: they, too, spill in wider ones."""
    return map_tile(pixels, features, k, widest=128)


def image_tile(places: int, features: int) -> Tile:
    """Of the product that makes images, with 16 columns: places of 2x2 pixels."""
    rows = 128 if tiles(places, 1, 128, 1) > 2 * SMS else 64
    return Tile(rows, 16, max(16, min(64, power_of_two(features))), 4, 3)


def weight_tile(rows: int, columns: int, pixels: int) -> Tile:
    """Of a weight's gradient, (rows, pixels) (pixels, columns)."""
    if columns <= 64:  # beside images
        return Tile(64, max(16, power_of_two(columns)), 64, 4, 2)
    if rows * columns * pixels >= 4 << 30:
        return Tile(128, 256, 64, 8, 3)
    if tiles(rows, columns, 128, 128) >= SMS - WAVE:
        return Tile(128, 128, 64, 8, 4)
    return Tile(128, 64, 64, 4, 3)


def parts_of(tile: Tile, rows: int, columns: int, pixels: int) -> tuple[int, int]:
    """Parts of the pixels whose products are made apart and then added up; pixels of a part."""
    programs = SMS if tile.rows == 128 else 2 * SMS  # more of the larger ones gain nothing
    each = programs / tiles(rows, columns, tile.rows, tile.columns)
    most = max(1, min(round(each), -(-pixels // (2 * tile.k))))
    length = whole_loads(pixels, most, tile.k)
    return -(-pixels // length), length


def whole_loads(pixels: int, parts: int, k: int) -> int:
    """Pixels of a part, in loads of k."""
    return -(-pixels // (parts * k)) * k


def tiles(rows: int, columns: int, tile_rows: int, tile_columns: int) -> int:
    """How many tiles a result is cut into."""
    return -(-rows // tile_rows) * -(-columns // tile_columns)


def pixels_of(maps: Tensor) -> int:
    """Of all images."""
    return maps.numel() // maps.shape[1]


def sizes_of(large: Tensor, small: Tensor) -> dict[str, int]:
    """Of both maps, as the kernels take them."""
    _, channels, height, width = large.shape
    _, features, rows, columns = small.shape
    return {
        "HEIGHT": height, "WIDTH": width, "CHANNELS": channels,
        "ROWS": rows, "COLUMNS": columns, "FEATURES": features,
    }  # fmt: skip


def compiled(tile: Tile, summed: bool = False) -> dict[str, Any]:
    """What a tile asks of Triton, whether sums are found as well or not.

    Where an SM gets two tiles of 128x128, four warps each are faster (0.65 to 0.9 of the time, on
    an H200); with sums, and before Hopper, they spill registers.
    """
    two = tile.rows == tile.columns == 128 and tile.stages == 3 and not summed
    return {
        "num_warps": tile.warps,
        "num_stages": tile.stages,
        "maxnreg": 255,  # left alone, ptxas aims at fewer, for more programs at a time, and spills
        "on_hopper": {"num_warps": 4} if two else None,
    }
