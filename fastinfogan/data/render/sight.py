"""What each solid of a scene is to the rays of its camera: a few polynomials in u and v.

A ray is eye + t (forward + u right + v up): t is a depth, and (u, v) is where in the picture, from
-1 to 1. Mapped back to where the solid is a unit one, a ray is ``start + s way`` with the same t =
depth + s, counted from the plane through the solid's centre; both are linear in u and v, and their
scalar products are quadratic. So where a ray enters a solid takes a few sums for each ray, and all
else is done here, once for each solid, in float64.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastinfogan.data.render.solids import KINDS, Cameras, Scenes, dot, inverse

SLACK = 1e-6  # of the picture's half: what rounding may move an outline by


class Sight(NamedTuple):
    """n = N P solids, each as its own camera sees it.

    A linear polynomial is its factors of 1, u, v; a quadratic one those of 1, u, v, uu, uv, vv.

    Attributes:
        depth: (n,), t at the plane through the solid's centre.
        lines: (n, 3, 2, 3): for each axis of the unit solid, start and way, linear.
        faces: (n, 3), the light of the face that is seen along each axis.
        curves: (n, 6, 6), quadratic. For where a ray enters what is round of a solid: way . way,
            start . way and start . start - 1. For the normal there, which in space is start' +
            s way': start' . start', start' . way' and way' . way'.
        lamp: (n, 2, 3): start' and way', times the lamp's light, linear.
        dim: (n,), the light where the lamp doesn't reach.
    """

    depth: np.ndarray
    lines: np.ndarray
    faces: np.ndarray
    curves: np.ndarray
    lamp: np.ndarray
    dim: np.ndarray


def sight(scenes: Scenes, cameras: Cameras, lamps: np.ndarray, ambient: float) -> Sight:
    """The solids of N scenes, in the order of the scenes.

    Args:
        scenes: N of them, P solids each.
        cameras, lamps, ambient: as for ``render``.
    """
    back = inverse(scenes.axes)  # (N, P, 3, 3); a row for each axis of the unit solid
    apart = scenes.centres - cameras.eyes[:, None]
    depth = dot(apart, cameras.forwards[:, None])
    reach = cameras.reach
    way = [_mapped(back, v[:, None]) for v in (cameras.forwards, reach * cameras.rights,
                                               reach * cameras.ups)]  # fmt: skip
    from_centre = depth[..., None] * cameras.forwards[:, None] - apart
    start = [_mapped(back, from_centre), depth[..., None] * way[1], depth[..., None] * way[2]]
    # A surface with the normal n has the light  dim + max(0, n . light / |n|).
    light = (1 - ambient) * scenes.greys[..., None] * lamps[:, None]
    dim = ambient * scenes.greys
    # The eye sees the face on its own side along each axis, whose normal is a row of ``back``.
    side = np.sign(_mapped(back, -apart))
    squarely = side * dot(back, light[..., None, :]) / np.sqrt(dot(back, back))
    # What is round of a cylinder doesn't depend on its upright axis.
    flat = np.ones((*depth.shape, 3))
    flat[scenes.kinds == KINDS.index("cylinder"), 1] = 0
    start_round, way_round = ([flat * part for part in line] for line in (start, way))
    out = back.swapaxes(-1, -2)  # takes a unit solid's normal to space
    start_out, way_out = (
        [_mapped(out, part) for part in line] for line in (start_round, way_round)
    )
    curves = [
        _product(way_round, way_round), _product(start_round, way_round),
        _product(start_round, start_round), _product(start_out, start_out),
        _product(start_out, way_out), _product(way_out, way_out),
    ]  # fmt: skip
    curves[2][..., 0] -= 1
    numbers = Sight(
        depth=depth,
        lines=np.stack([np.stack(start, -1), np.stack(way, -1)], -2),
        faces=dim[..., None] + np.maximum(squarely, 0),
        curves=np.stack(curves, -2),
        lamp=np.stack([np.stack([dot(part, light) for part in line], -1)
                       for line in (start_out, way_out)], -2),
        dim=dim,
    )  # fmt: skip
    return Sight(*(array.reshape(-1, *array.shape[2:]) for array in numbers))


def outlines(scenes: Scenes, cameras: Cameras) -> np.ndarray:
    """Bounds of each solid's outline in the picture: (N, P, 2, 2), of u and of -v, from and to.

    They hold the projected corners of the box about the solid.
    """
    apart = scenes.centres - cameras.eyes[:, None]
    bounds = np.empty((*apart.shape[:2], 2, 2))
    bounds[..., 0], bounds[..., 1] = np.inf, -np.inf
    for corner in np.ndindex(2, 2, 2):
        point = apart + dot(scenes.axes, np.array(corner) * 2.0 - 1)
        depth = cameras.reach * dot(point, cameras.forwards[:, None])
        for axis, vectors in enumerate((cameras.rights, -cameras.ups)):
            at = dot(point, vectors[:, None]) / depth
            low, high = bounds[..., axis, 0], bounds[..., axis, 1]
            np.minimum(low, at - SLACK, out=low)
            np.maximum(high, at + SLACK, out=high)
    return bounds


def _mapped(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Matrices (..., 3, 3) times vectors (..., 3)."""
    return dot(matrices, vectors[..., None, :])


def _product(a: list[np.ndarray], b: list[np.ndarray]) -> np.ndarray:
    """The scalar product of two linear vectors, a quadratic polynomial: (N, P, 6)."""
    (a1, au, av), (b1, bu, bv) = a, b
    return np.stack(
        [dot(a1, b1), dot(a1, bu) + dot(au, b1), dot(a1, bv) + dot(av, b1), dot(au, bu),
         dot(au, bv) + dot(av, bu), dot(av, bv)], -1,
    )  # fmt: skip
