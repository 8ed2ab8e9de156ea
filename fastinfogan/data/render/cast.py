"""Rays cast at scenes of solids: grey images, antialiased, lit by one lamp.

A pixel is the mean of ``SAMPLES`` x ``SAMPLES`` rays. The picture is cut into tiles, and a tile's
rays meet only the solids whose outline may reach into it. A ray is eye + t (forward + u right + v
up), so that t is a depth; mapped back to where a solid is a unit one, it stays a ray with the same t,
and where it enters is a line of arithmetic. Each step is one of +, -, *, /, sqrt or a comparison,
which every processor rounds alike: so the images don't depend on device, threads or blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastinfogan.data.render.solids import KINDS, Cameras, Scenes, dot, inverse
from fastinfogan.device import pick_device

SAMPLES = 3  # along either axis of a pixel
TILE = 8  # pixels a side
FAR = 1e9  # the depth of the background
SLACK = 1e-6  # of the picture's half: what rounding may move an outline by


class _Pairs(NamedTuple):
    """Tiles and solids that may be seen in them, no tile twice.

    Attributes:
        tiles: int64 (T,), numbers of tiles.
        solids: int64 (T,), numbers of solids.
    """

    tiles: Tensor
    solids: Tensor


class _Numbers(NamedTuple):
    """What each of n solids is in the sight of its camera, float32.

    Attributes:
        depths: (n,), t at the plane through the solid's centre.
        starts, starts_u, starts_v: (n, 3): a ray's point at that depth is start + u start_u +
            v start_v, in the unit solid's space.
        ways, ways_u, ways_v: likewise, its direction.
        greys: (n, 3), of the face seen along each axis, lit.
        lit: (n, 3): the lamp's light on a normal n of the unit solid is n . lit / |n| in space.
        metric: (n, 6), xx, yy, zz, xy, yz, zx: the squared length of a normal from the unit solid.
        dim: (n,), the light where the lamp doesn't reach.
    """

    depths: Tensor
    starts: Tensor
    starts_u: Tensor
    starts_v: Tensor
    ways: Tensor
    ways_u: Tensor
    ways_v: Tensor
    greys: Tensor
    lit: Tensor
    metric: Tensor
    dim: Tensor


def render(
    scenes: Scenes,
    cameras: Cameras,
    lamps: np.ndarray,
    size: int,
    background: float,
    ambient: float,
    device: torch.device | None = None,
) -> np.ndarray:
    """Grey images of N scenes: uint8 (N, size, size).

    Args:
        scenes: N of them, wholly in front of their cameras.
        cameras: N.
        lamps: (N, 3), unit vectors towards them.
        size: pixels a side; a multiple of ``TILE``.
        background: grey where there is nothing, 0 to 1.
        ambient: of the light on what the lamp shines on squarely, the part that comes from all
            around and falls on everything.
        device: where to compute; None: on the GPU, where there is one.
    """
    device = pick_device("auto") if device is None else device
    numbers, boxes = _seen(scenes, cameras, lamps, ambient)
    numbers = _Numbers(*(torch.from_numpy(np.float32(n)).to(device) for n in numbers))
    across = size // TILE
    side = TILE * SAMPLES
    places = (np.arange(size * SAMPLES) + 0.5) * 2 / (size * SAMPLES) - 1
    at = torch.from_numpy(np.float32(places)).to(device).view(across, side)
    total = len(scenes) * across * across
    seen = torch.full((total, side, side), FAR, device=device)
    light = torch.full((total, side, side), background, device=device)
    for kind, pairs in _candidates(scenes.kinds, boxes, across, device):
        enter = {"box": _enter_boxes, "cylinder": _enter_cylinders, "ellipsoid": _enter_ellipsoids}
        row, column = pairs.tiles // across % across, pairs.tiles % across
        mine = _Numbers(*(n[pairs.solids] for n in numbers))
        depth, grey = enter[kind](mine, at[column][:, None], -at[row][:, :, None])
        before = seen[pairs.tiles]
        nearer = depth < before
        seen[pairs.tiles] = torch.where(nearer, depth, before)
        light[pairs.tiles] = torch.where(nearer, grey, light[pairs.tiles])
    # Whole numbers: their sums are the same in any order.
    levels = (light.clamp_(0, 1) * 255).round_().int()
    pixels = levels.view(-1, TILE, SAMPLES, TILE, SAMPLES).sum((2, 4))
    pixels = (2 * pixels + SAMPLES**2) // (2 * SAMPLES**2)
    images = pixels.view(-1, across, across, TILE, TILE).transpose(2, 3)
    return images.reshape(-1, size, size).byte().cpu().numpy()


def _seen(
    scenes: Scenes, cameras: Cameras, lamps: np.ndarray, ambient: float
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """The arrays of ``_Numbers``, and each solid's outline's bounds: (N, P, 4), u from, to, v.

    All in float64, with N and P flattened into one axis but in the bounds.
    """
    back = inverse(scenes.axes)  # (N, P, 3, 3): rows are what a point is multiplied by

    def mapped(vectors: np.ndarray) -> np.ndarray:
        return dot(back, vectors[..., None, :])

    forwards, rights, ups = (v[:, None] for v in (cameras.forwards, cameras.rights, cameras.ups))
    apart = scenes.centres - cameras.eyes[:, None]
    depths = dot(apart, forwards)
    starts = mapped(depths[..., None] * forwards - apart)
    way, way_u, way_v = (
        mapped(np.broadcast_to(v, apart.shape))
        for v in (forwards, cameras.reach * rights, cameras.reach * ups)
    )
    deep = depths[..., None]
    lengths = np.sqrt(dot(back, back))
    # Of a box, the eye sees the face on its own side along each axis.
    facing = np.sign(mapped(-apart))
    # A unit solid's normal n has the light  own (ambient + (1 - ambient) max(0, n . lamp / |n|)).
    lit = (1 - ambient) * scenes.greys[..., None] * dot(back, lamps[:, None, None])
    dim = ambient * scenes.greys
    greys = dim[..., None] + np.maximum(lit * facing / lengths, 0)
    metric = np.stack(
        [dot(back[..., i, :], back[..., j, :]) for i, j in
         ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0))], -1,
    )  # fmt: skip
    numbers = (
        depths,
        starts,
        deep * way_u,
        deep * way_v,
        way,
        way_u,
        way_v,
        greys,
        lit,
        metric,
        dim,
    )
    flat = tuple(n.reshape(-1, *n.shape[2:]) for n in numbers)
    return flat, _bounds(scenes, cameras, apart)


def _bounds(scenes: Scenes, cameras: Cameras, apart: np.ndarray) -> np.ndarray:
    """What holds each solid's outline: the projected corners of the box about it."""
    bounds = np.empty((*apart.shape[:2], 4))
    bounds[..., ::2], bounds[..., 1::2] = np.inf, -np.inf
    for corner in np.ndindex(2, 2, 2):
        signs = np.array(corner) * 2.0 - 1
        point = apart + dot(scenes.axes, np.broadcast_to(signs, scenes.axes.shape))
        depth = cameras.reach * dot(point, cameras.forwards[:, None])
        for first, axis, sign in ((0, cameras.rights, 1), (2, cameras.ups, -1)):
            at = sign * dot(point, axis[:, None]) / depth
            bounds[..., first] = np.minimum(bounds[..., first], at - SLACK)
            bounds[..., first + 1] = np.maximum(bounds[..., first + 1], at + SLACK)
    return bounds


def _candidates(
    kinds: np.ndarray, bounds: np.ndarray, across: int, device: torch.device
) -> Iterator[tuple[str, _Pairs]]:
    """Every tile with every solid that may be seen in it, some at a time and of one kind."""
    edges = np.clip((bounds + 1) / 2 * across, 0, across)
    first, last = np.floor(edges[..., ::2]), np.ceil(edges[..., 1::2])  # of u, of v
    tiles = np.arange(across)
    inside = (tiles >= first[..., None]) & (tiles < last[..., None])  # (N, P, 2, across)
    inside = inside[:, :, 1, :, None] & inside[:, :, 0, None, :]  # (N, P, rows, columns)
    solids = np.arange(kinds.size).reshape(kinds.shape)
    for number, kind in enumerate(KINDS):
        here = (inside & (kinds == number)[..., None, None]).transpose(0, 2, 3, 1)
        rank = here.cumsum(-1) * here  # 1 for the first solid of a tile, ...
        for which in range(1, int(rank.max(initial=0)) + 1):
            image, row, column, solid = np.nonzero(rank == which)
            yield (
                kind,
                _Pairs(
                    torch.from_numpy((image * across + row) * across + column).to(device),
                    torch.from_numpy(solids[image, solid]).to(device),
                ),
            )


def _ray(numbers: _Numbers, axis: int, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """One coordinate of each ray's point at the centre's depth, and of its direction."""

    def at(constant: Tensor, along_u: Tensor, along_v: Tensor) -> Tensor:
        constant, along_u, along_v = (n[:, axis, None, None] for n in (constant, along_u, along_v))
        return (constant + along_v * v) + along_u * u

    return (
        at(numbers.starts, numbers.starts_u, numbers.starts_v),
        at(numbers.ways, numbers.ways_u, numbers.ways_v),
    )


def _column(values: Tensor) -> Tensor:
    return values[:, None, None]


def _enter_boxes(numbers: _Numbers, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays enter boxes, FAR where they don't, and the grey of the face: each (T, S, S).

    Args:
        numbers: of T boxes.
        u: (T, 1, S).
        v: (T, S, 1).
    """
    enter = leave = grey = None
    for axis in range(3):
        start, way = _ray(numbers, axis, u, v)
        inverse = way.reciprocal_()
        middle = start.mul_(inverse).neg_()
        half = inverse.abs_()
        near, far = middle - half, middle.add_(half)
        face = _column(numbers.greys[:, axis])
        if enter is None:
            enter, leave, grey = near, far, face
        else:
            grey = torch.where(near > enter, face, grey)
            enter, leave = torch.maximum(enter, near, out=near), torch.minimum(leave, far, out=far)
    return torch.where(enter < leave, enter + _column(numbers.depths), FAR), grey


def _lit(numbers: _Numbers, lamp: Tensor, squared: Tensor) -> Tensor:
    """The light that round surfaces reflect, from n . lamp and n . n."""
    return lamp.div_(squared.sqrt_()).clamp_(min=0).add_(_column(numbers.dim))


def _enter_ellipsoids(numbers: _Numbers, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """As ``_enter_boxes``."""
    rays = [_ray(numbers, axis, u, v) for axis in range(3)]
    a, b, c = (sum(x * y for x, y in pairs) for pairs in (
        [(way, way) for _, way in rays], rays, [(start, start) for start, _ in rays],
    ))  # fmt: skip
    inside = b * b - a * (c - 1)
    t = (-b - inside.clamp(min=0).sqrt_()) / a
    x, y, z = (start.add_(way.mul_(t)) for start, way in rays)
    lamp = sum(_column(numbers.lit[:, i]) * p for i, p in enumerate((x, y, z)))
    xx, yy, zz, xy, yz, zx = (_column(numbers.metric[:, i]) for i in range(6))
    squared = x * (xx * x + 2 * xy * y) + y * (yy * y + 2 * yz * z) + z * (zz * z + 2 * zx * x)
    t = t.add_(_column(numbers.depths))
    return torch.where(inside > 0, t, FAR), _lit(numbers, lamp, squared)


def _enter_cylinders(numbers: _Numbers, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """As ``_enter_boxes``."""
    (x, x_way), (y, y_way), (z, z_way) = (_ray(numbers, axis, u, v) for axis in range(3))
    a = x_way * x_way + z_way * z_way
    b = x * x_way + z * z_way
    inside = b * b - a * (x * x + z * z - 1)
    root = inside.clamp(min=0).sqrt_()
    round_near, round_far = (-b - root) / a, (root - b) / a
    inverse = y_way.reciprocal_()
    middle, half = -(y * inverse), inverse.abs()
    flat_near, flat_far = middle - half, middle + half
    enter = torch.maximum(round_near, flat_near)
    hit = (inside > 0) & (enter < torch.minimum(round_far, flat_far))
    x, z = x.add_(x_way.mul_(enter)), z.add_(z_way.mul_(enter))
    lamp = _column(numbers.lit[:, 0]) * x + _column(numbers.lit[:, 2]) * z
    xx, _, zz, _, _, zx = (_column(numbers.metric[:, i]) for i in range(6))
    side = _lit(numbers, lamp, x * (xx * x + 2 * zx * z) + z * z * zz)
    grey = torch.where(flat_near > round_near, _column(numbers.greys[:, 1]), side)
    return torch.where(hit, enter + _column(numbers.depths), FAR), grey
