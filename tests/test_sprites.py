"""The dataset ``sprites``: every combination of its factors, at either size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from user_errors import error_of

from fastinfogan.data import load_images
from fastinfogan.data.sources.sprites import FACTORS, RADII, SHADES, SIZES, TILE, coverage


@pytest.mark.parametrize("size", [32, pytest.param(64, marks=pytest.mark.slow)])
def test_sprites_are_every_combination_of_their_factors(size):
    data = load_images("sprites", image_size=size)
    assert data.images.shape == (np.prod(SIZES), size, size, 1) == (18432, size, size, 1)
    assert data.factor_rows == FACTORS and len(np.unique(data.factors, axis=0)) == 18432
    assert data.factors.max(0).tolist() == [size - 1 for size in SIZES]
    assert len({image.tobytes() for image in data.images}) == 18432  # every factor shows
    # Fixed, so that measurements on them can be compared.
    again = load_images("sprites", split="test", image_size=size)
    assert data.fingerprint == again.fingerprint
    factor = {name: data.factors[:, i] for i, name in enumerate(data.factor_names)}
    total = data.images.reshape(len(data), -1).astype(int)
    np.testing.assert_array_equal(total.max(1), np.array(SHADES)[factor["shade"]])
    # The centre of mass moves by whole steps, by the position factors alone.
    mass = data.images[..., 0].astype(float)
    weight = mass.sum((1, 2))
    for axis, name in ((2, "x"), (1, "y")):
        centre = (mass.sum(3 - axis) * (np.arange(size) + 0.5)).sum(1) / weight * 64 / size
        expected = TILE / 2 + (64 - TILE) // 7 * factor[name]
        assert np.abs(centre - expected).max() < 0.6
    assert "drop it" in error_of(load_images, "sprites", Path("x"))


def test_small_sprites_are_large_ones_averaged():
    small, large = (load_images("sprites", image_size=size).images for size in (32, 64))
    averaged = large.reshape(-1, 32, 2, 32, 2).mean((2, 4), dtype=np.float32)
    assert np.abs(small[..., 0] - averaged).max() <= 1.0  # both are rounded


@pytest.mark.parametrize(
    ("shape", "area"),
    [("square", 2.0), ("ellipse", np.pi / 2), ("triangle", 3 * np.sqrt(3) / 4)],
)
def test_sprites_cover_the_area_of_their_shape(shape, area):
    """Areas of a square, an ellipse of half the height and a triangle in a circle of radius 1."""
    for radius in RADII:
        for angle in (0.0, 0.3, 1.1):
            covered = coverage(shape, radius, angle)
            assert covered.sum() == pytest.approx(area * radius**2, rel=0.05)
            assert covered[0].max() == covered[-1].max() == covered[:, 0].max() == 0
