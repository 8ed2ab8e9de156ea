"""Rays cast at scenes of solids: grey images, antialiased, lit by one lamp.

A pixel is the mean of ``SAMPLES`` x ``SAMPLES`` rays. The picture is cut into tiles, and a tile's
rays meet only the solids whose outline may reach into it. Each step is one of +, -, *, /, ``_root``
and comparisons, which every processor rounds alike: so an image doesn't depend on device, threads
or what is rendered with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fastinfogan.data.render.sight import Sight, outlines, sight
from fastinfogan.data.render.solids import KINDS, Cameras, Scenes
from fastinfogan.device import pick_device

SAMPLES = 3  # along either axis of a pixel
TILE = 8  # pixels a side
SIDE = TILE * SAMPLES  # rays along a tile's side
FAR = 1e9  # the depth of the background
TILES_AT_ONCE = 200  # on a CPU, so that their rays stay in its cache


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
    numbers = [torch.from_numpy(np.float32(n)).to(device)
               for n in sight(scenes, cameras, lamps, ambient)]  # fmt: skip
    across = size // TILE
    places = (np.arange(size * SAMPLES) + 0.5) * 2 / (size * SAMPLES) - 1
    at = torch.from_numpy(np.float32(places)).to(device).view(across, SIDE)
    tiles = len(scenes) * across * across
    seen = torch.full((tiles, SIDE, SIDE), FAR, device=device)
    light = torch.full((tiles, SIDE, SIDE), background, device=device)
    most = tiles if device.type == "cuda" else TILES_AT_ONCE
    for kind, pairs in _candidates(scenes.kinds, outlines(scenes, cameras), across):
        for tile, solid in torch.from_numpy(pairs).to(device).split(most, 1):
            row, column = tile // across % across, tile % across
            rays = _Rays(Sight(*(n[solid] for n in numbers)), at[column][:, None],
                         -at[row][:, :, None])  # fmt: skip
            depth, grey = _ENTER[kind](rays)
            before = seen[tile]
            nearer = depth < before
            seen[tile] = torch.where(nearer, depth, before)
            light[tile] = torch.where(nearer, grey, light[tile])
    # Whole numbers: their sums are the same in any order.
    levels = light.clamp_(0, 1).mul_(255).round_().int()
    pixels = levels.view(-1, TILE, SAMPLES, TILE, SAMPLES).sum((2, 4))
    pixels = (2 * pixels + SAMPLES**2) // (2 * SAMPLES**2)
    images = pixels.view(-1, across, across, TILE, TILE).transpose(2, 3)
    return images.reshape(-1, size, size).byte().cpu().numpy()


def _candidates(
    kinds: np.ndarray, bounds: np.ndarray, across: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Every tile with every solid that may be seen in it: a kind, and int64 (2, T), their numbers.

    The solids at once are of one kind, and no tile is there twice.
    """
    edges = np.clip((bounds + 1) / 2 * across, 0, across)
    tiles = np.arange(across)
    inside = tiles >= np.floor(edges[..., :1])  # (N, P, 2, across)
    inside &= tiles < np.ceil(edges[..., 1:])
    inside = inside[:, :, 1, :, None] & inside[:, :, 0, None]  # (N, P, rows, columns)
    for number, kind in enumerate(KINDS):
        here = inside & (kinds == number)[..., None, None]
        rank = here.cumsum(1) * here  # 1 for the first solid of a tile, ...
        for which in range(1, int(rank.max(initial=0)) + 1):
            image, place, row, column = np.nonzero(rank == which)
            tile = (image * across + row) * across + column
            yield kind, np.stack([tile, image * kinds.shape[1] + place])


@dataclass(frozen=True)
class _Rays:
    """T tiles' rays, each tile's with a solid.

    Attributes:
        solids: T of them, as tensors.
        u: (T, 1, SIDE).
        v: (T, SIDE, 1).
    """

    solids: Sight
    u: Tensor
    v: Tensor

    def linear(self, factors: Tensor) -> Tensor:
        """A linear polynomial (T, 3) at each ray."""
        one, u, v = factors[:, :, None, None].unbind(1)
        return (one + v * self.v) + u * self.u

    def quadratic(self, factors: Tensor) -> Tensor:
        """A quadratic polynomial (T, 6) at each ray."""
        one, u, v, uu, uv, vv = factors[:, :, None, None].unbind(1)
        slope = (u + uv * self.v) + uu * self.u
        return slope.mul_(self.u).add_(one + (v + vv * self.v) * self.v)

    def of(self, values: Tensor) -> Tensor:
        """A number for each solid, to go with what is there for each ray."""
        return values[:, None, None]

    def between_faces(self, axis: int) -> tuple[Tensor, Tensor]:
        """Where the rays come between the two faces across an axis, and where they leave."""
        start, way = (self.linear(self.solids.lines[:, axis, part]) for part in range(2))
        half = way.reciprocal_()
        middle = start.mul_(half).neg_()
        half = half.abs_()
        return middle - half, middle.add_(half)

    def round(self) -> tuple[Tensor, Tensor, Tensor]:
        """Where the rays enter what is round, whether they do, and the way through, halved."""
        a, b, c = (self.quadratic(self.solids.curves[:, which]) for which in range(3))
        inside = (b * b).sub_(c.mul_(a))
        hit = inside > 0
        half = _root(inside.clamp_(min=0)).div_(a)
        return b.div_(a).neg_().sub_(half), hit, half

    def round_light(self, at: Tensor) -> Tensor:
        """The light on what is round, where the rays are at ``at``."""
        start, both, way = (self.quadratic(self.solids.curves[:, 3 + w]) for w in range(3))
        squared = way.mul_(at).add_(both.mul_(2)).mul_(at).add_(start)
        lamp, lamp_way = (self.linear(self.solids.lamp[:, part]) for part in range(2))
        lamp = lamp_way.mul_(at).add_(lamp)
        return lamp.div_(_root(squared)).clamp_(min=0).add_(self.of(self.solids.dim))

    def found(self, at: Tensor, hit: Tensor) -> Tensor:
        """Depths, FAR where a ray misses its solid."""
        return torch.where(hit, at + self.of(self.solids.depth), FAR)


def _root(numbers: Tensor) -> Tensor:
    """Square roots as IEEE 754 rounds them: torch's in float32 are others, by device and kind."""
    return numbers.double().sqrt_().float()


def _enter_box(rays: _Rays) -> tuple[Tensor, Tensor]:
    """The depth where each ray enters its box, FAR if it doesn't, and the light there."""
    enter, leave = rays.between_faces(0)
    light = rays.of(rays.solids.faces[:, 0])
    for axis in (1, 2):
        near, far = rays.between_faces(axis)
        light = torch.where(near > enter, rays.of(rays.solids.faces[:, axis]), light)
        torch.maximum(enter, near, out=enter)
        torch.minimum(leave, far, out=leave)
    return rays.found(enter, enter < leave), light


def _enter_cylinder(rays: _Rays) -> tuple[Tensor, Tensor]:
    """As ``_enter_box``."""
    side, hit, half = rays.round()
    near, far = rays.between_faces(1)
    enter = torch.maximum(side, near)
    hit &= enter < torch.minimum(half.mul_(2).add_(side), far)
    top = rays.of(rays.solids.faces[:, 1])
    return rays.found(enter, hit), torch.where(near > side, top, rays.round_light(side))


def _enter_ellipsoid(rays: _Rays) -> tuple[Tensor, Tensor]:
    """As ``_enter_box``."""
    at, hit, _ = rays.round()
    return rays.found(at, hit), rays.round_light(at)


_ENTER = {"box": _enter_box, "cylinder": _enter_cylinder, "ellipsoid": _enter_ellipsoid}
