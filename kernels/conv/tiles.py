"""How conv's Triton kernels cut their work into tiles: by shapes alone, never by timing."""

from __future__ import annotations

from typing import NamedTuple

from fastinfogan.kernels.triton_module import power_of_two

SMS = 132  # programs that a large GPU runs at once: fewer leave some of it idle


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


def map_tile(rows: int, columns: int, k: int) -> Tile:
    """Of a product that makes maps, (rows, k) (k, columns)."""
    wide = max(16, min(128, power_of_two(columns)))
    deep = max(16, min(64, power_of_two(k)))
    for tile in (Tile(128, wide, deep, 8 if wide == 128 else 4), Tile(128, min(wide, 64), deep)):
        if -(-rows // tile.rows) * -(-columns // tile.columns) >= SMS:
            return tile
    return Tile(64, min(wide, 64), deep)


def weight_tile(rows: int, columns: int, pixels: int) -> Tile:
    """Of a weight's gradient, (rows, pixels) (pixels, columns)."""
    return Tile(64, max(16, min(64, power_of_two(columns))), 64)


def parts_of(tile: Tile, rows: int, columns: int, pixels: int) -> tuple[int, int]:
    """Parts of the pixels whose products are made apart and then added up; pixels of a part."""
    tiles = -(-rows // tile.rows) * -(-columns // tile.columns)
    most = max(1, min(2 * SMS // tiles, pixels // (4 * tile.k)))
    length = whole_loads(pixels, most, tile.k)
    return -(-pixels // length), length


def whole_loads(pixels: int, parts: int, k: int) -> int:
    """Pixels of a part, in loads of k."""
    return -(-pixels // (parts * k)) * k


def image_tile(places: int, features: int) -> Tile:
    """Of the product that makes images, with 16 columns."""
    return Tile(128 if places >= 128 * SMS else 64, 16, max(16, min(64, power_of_two(features))))


def sum_blocks(parts: int) -> dict[str, int]:
    """Tiles of 2,048 numbers, 16 in each of 128 threads, for adding parts up."""
    block_parts = min(64, power_of_two(parts))
    return {"BLOCK_PARTS": block_parts, "BLOCK": 2048 // block_parts, "num_warps": 4}
