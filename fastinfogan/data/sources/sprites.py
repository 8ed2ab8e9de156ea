"""``sprites``: shapes rendered here, with known factors, to measure disentanglement on.

Every combination of shape, scale, rotation, position and shade, grey, in the order of the factors'
values (the last varies fastest). They are drawn 64 x 64; images of 32 x 32, which are learned from
four times as fast, are these averaged over 2 x 2 pixels. Edges are smooth: a pixel's value is the
share of it that the shape covers, estimated from 4 x 4 points.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastinfogan.data.dataset import Dataset, LoadRequest
from fastinfogan.data.factors import Factor
from fastinfogan.data.images import ImageData
from fastinfogan.errors import UserError

SIDE = 64
SIZES_OF_IMAGES = (32, SIDE)
SHAPES = ("square", "ellipse", "triangle")
RADII = (6.0, 8.0, 10.0, 12.0)  # pixels from the centre to the farthest point
ROTATIONS = 8  # over 90 degrees, which is what a square takes to look the same again
POSITIONS = 8  # along either axis
SHADES = (85, 170, 255)
FACTORS = (
    Factor("shape"),
    Factor("scale", "ordered"),
    Factor("rotation", "ordered"),  # only a square has come round after 90 degrees
    Factor("x", "ordered"),
    Factor("y", "ordered"),
    Factor("shade", "ordered"),
)
SIZES = (len(SHAPES), len(RADII), ROTATIONS, POSITIONS, POSITIONS, len(SHADES))
TILE = 26  # holds the largest shape, turned in any way
POINTS = 4  # along either axis of a pixel


def load_sprites(request: LoadRequest) -> ImageData:
    """The sprites: uint8 18432 x H x H x 1, 0 is background; factors index their values.

    H is ``request.image_size``. Both splits are the same images.
    """
    if request.data_dir is not None:
        raise UserError(
            f"--data-dir {str(request.data_dir)!r} does not go with --dataset sprites, which are "
            "rendered when they are asked for; drop it"
        )
    factors = np.indices(SIZES).reshape(len(SIZES), -1).T.astype(np.int64)
    size = request.image_size or SIZES_OF_IMAGES[0]
    images = np.empty((*SIZES, size, size), np.uint8)
    steps = (SIDE - TILE) // (POSITIONS - 1)
    for shape, name in enumerate(SHAPES):
        for scale, radius in enumerate(RADII):
            for rotation in range(ROTATIONS):
                cover = coverage(name, radius, np.pi / 2 * rotation / ROTATIONS)
                share = np.zeros((POSITIONS, POSITIONS, SIDE, SIDE))
                for x, y in np.ndindex(POSITIONS, POSITIONS):
                    left, top = x * steps, y * steps
                    share[x, y, top : top + TILE, left : left + TILE] = cover
                ratio = SIDE // size
                share = share.reshape(POSITIONS, POSITIONS, size, ratio, size, ratio).mean((3, 5))
                shades = np.array(SHADES)[:, None, None] * share[:, :, None]
                images[shape, scale, rotation] = np.rint(shades)
    return ImageData(
        name="sprites",
        images=images.reshape(-1, size, size, 1),
        labels=factors[:, 0].copy(),
        label_names=SHAPES,
        factors=factors,
        factor_rows=FACTORS,
    )


def coverage(shape: str, radius: float, angle: float) -> np.ndarray:
    """Share of each pixel of a TILE x TILE tile that the shape covers, in [0, 1]."""
    at = (np.arange(TILE * POINTS) + 0.5) / POINTS - TILE / 2
    x, y = np.meshgrid(at, at)
    u = np.cos(angle) * x + np.sin(angle) * y
    v = np.cos(angle) * y - np.sin(angle) * x
    if shape == "square":
        inside = np.maximum(abs(u), abs(v)) <= radius / np.sqrt(2)
    elif shape == "ellipse":
        inside = u**2 + (2 * v) ** 2 <= radius**2
    else:  # an equilateral triangle: no more than radius / 2 from the centre along each normal
        normals = np.pi * np.array([1 / 6, 5 / 6, 3 / 2])
        reach = np.cos(normals)[:, None, None] * u + np.sin(normals)[:, None, None] * v
        inside = reach.max(0) <= radius / 2
    return inside.reshape(TILE, POINTS, TILE, POINTS).mean((1, 3))


def sprites_status(data_dir: Path | None) -> tuple[bool, str]:
    """See ``Dataset.status``."""
    return True, "rendered when they are asked for"


SPRITES = Dataset(
    name="sprites",
    summary="18,432 rendered shapes with known factors, 32x32 or 64x64 grey; no download",
    default_preset="sprites",
    iterations=None,
    image_shape=(1, SIZES_OF_IMAGES[0], SIZES_OF_IMAGES[0]),
    sizes=SIZES_OF_IMAGES,
    has_test_split=False,
    load=load_sprites,
    status=sprites_status,
    built_in=True,
)
