"""Parametric chairs: a chair's design, drawn at random, and the solids that make it.

Lengths are metres until the end: the floor is at y = 0, the front towards +z.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fastinfogan.data.render.solids import Kind, Solid

STYLES = ("box", "round")
LEGS = ("straight", "splayed", "pedestal", "sled", "block")
BACKS = ("panel", "spindles", "slats", "medallion")
ARMS = ("none", "open", "closed")
WIDTHS = range(70, 131, 5)  # per cent
HALF = 0.22  # of a seat's width at 100 per cent


class Design(NamedTuple):
    """What tells one chair from another.

    Attributes:
        width: of the seat, per cent of the usual; one of ``WIDTHS``.
        style, legs, back, arms: indices into ``STYLES``, ``LEGS``, ``BACKS``, ``ARMS``.
        seat: height of the seat.
        deep: half of the seat's depth.
        thick: half of the seat's thickness.
        high: length of the back.
        tilt: how far the back leans, as a slope.
        post: half of a leg's thickness.
        splay: how far splayed legs lean, as a slope.
        bars: how many spindles; slats are half as many.
        cushion: whether there is one.
        stretchers: whether bars join the legs.
        wood, cloth: their greys.
    """

    width: int
    style: int
    legs: int
    back: int
    arms: int
    seat: float
    deep: float
    thick: float
    high: float
    tilt: float
    post: float
    splay: float
    bars: int
    cushion: bool
    stretchers: bool
    wood: float
    cloth: float


def design(number: int) -> Design:
    """The design of the chair of that number: always the same."""
    # Only random(), whose values Python keeps from version to version.
    draw = random.Random(number).random

    def between(low: float, high: float) -> float:
        return low + (high - low) * draw()

    def one_of(choices: Sequence) -> int:
        return int(len(choices) * draw())

    return Design(
        width=WIDTHS[one_of(WIDTHS)],
        style=one_of(STYLES),
        legs=one_of(LEGS),
        back=one_of(BACKS),
        arms=one_of(ARMS),
        seat=between(0.36, 0.5),
        deep=between(0.19, 0.25),
        thick=between(0.015, 0.045),
        high=between(0.38, 0.68),
        tilt=between(0.02, 0.28),
        post=between(0.014, 0.028),
        splay=between(0.1, 0.25),
        bars=4 + one_of(range(4)),
        cushion=draw() < 0.4,
        stretchers=draw() < 0.5,
        wood=between(0.3, 0.7),
        cloth=between(0.25, 0.8),
    )


def chair(shape: Design) -> list[Solid]:
    """The chair, centred, and as large as a picture of it can be (see ``_fitted``)."""
    return _fitted([*_seat(shape), *_legs(shape), *_back(shape), *_arms(shape)])


def _solid(kind: Kind, centre: tuple, halves: tuple, grey: float) -> Solid:
    return Solid(kind, np.array(centre, float), np.diag(halves).astype(float), grey)


def _post(shape: Design) -> Kind:
    return ("box", "cylinder")[shape.style]


def _beam(shape: Design, start: tuple, end: tuple, half: float, grey: float) -> Solid:
    """A bar from one point to another."""
    start, end = np.array(start, float), np.array(end, float)
    along = (end - start) / 2
    length = math.hypot(*along)
    side = np.array([0.0, 0.0, 1.0]) if abs(along[2]) < 0.9 * length else np.array([1.0, 0.0, 0.0])
    side = np.cross(side, along / length)
    side /= math.hypot(*side)
    other = np.cross(along / length, side)
    axes = np.stack([half * side, along, half * other], 1)
    return Solid(_post(shape), (start + end) / 2, axes, grey)


def _wide(shape: Design) -> float:
    return HALF * shape.width / 100


def _seat(shape: Design) -> list[Solid]:
    wide, deep, thick = _wide(shape), shape.deep, shape.thick
    middle = shape.seat - thick
    solids = [_solid(_post(shape), (0, middle, 0), (wide, thick, deep), shape.wood)]
    if shape.cushion:
        place = (0, shape.seat, 0)
        solids.append(_solid("ellipsoid", place, (0.9 * wide, 0.05, 0.9 * deep), shape.cloth))
    return solids


def _legs(shape: Design) -> list[Solid]:
    wide, deep, half, wood = _wide(shape), shape.deep, shape.post, shape.wood
    top = shape.seat - 2 * shape.thick
    inset = 0.72 if shape.style == 1 else 1.0  # a round seat has no corners
    x, z = inset * wide - half, inset * deep - half
    corners = [(sx, sz) for sx in (-1, 1) for sz in (-1, 1)]
    kind = LEGS[shape.legs]
    if kind in ("straight", "splayed"):
        lean = 1 + shape.splay * top / HALF if kind == "splayed" else 1.0
        feet = [(sx * x * lean, sz * z * lean) for sx, sz in corners]
        legs = [
            _beam(shape, (fx, 0, fz), (sx * x, top, sz * z), half, wood)
            for (fx, fz), (sx, sz) in zip(feet, corners, strict=True)
        ]
        if shape.stretchers:
            x, z, low = x * (1 + lean) / 2, z * (1 + lean) / 2, top / 2
            legs += [_beam(shape, (s * x, low, -z), (s * x, low, z), half / 2, wood)
                     for s in (-1, 1)]  # fmt: skip
            legs.append(_beam(shape, (-x, low, 0), (x, low, 0), half / 2, wood))
        return legs
    if kind == "pedestal":
        column = _solid("cylinder", (0, top / 2, 0), (0.03, top / 2, 0.03), wood)
        if not shape.stretchers:
            return [column, _solid("cylinder", (0, 0.015, 0), (0.2, 0.015, 0.2), wood)]
        toes = [(0.26 * math.sin(a), 0.26 * math.cos(a)) for a in math.tau * np.arange(5) / 5]
        return [column] + [
            solid
            for tx, tz in toes
            for solid in (_beam(shape, (0, 0.08, 0), (tx, 0.05, tz), 0.018, wood),
                          _solid("ellipsoid", (tx, 0.025, tz), (0.03,) * 3, 0.2))
        ]  # fmt: skip
    if kind == "sled":
        sides = []
        for s in (-1, 1):
            sides.append(_beam(shape, (s * x, half, -z), (s * x, half, z), half, wood))
            sides.append(_beam(shape, (s * x, 0, z), (s * x, top, z), half, wood))
            if shape.stretchers:
                sides.append(_beam(shape, (s * x, 0, -z), (s * x, top, -z), half, wood))
        return sides
    feet = [_solid("cylinder", (sx * x, 0.03, sz * z), (0.02, 0.03, 0.02), 0.2)
            for sx, sz in corners]  # fmt: skip
    block = (wide * 0.98, (top - 0.06) / 2, deep * 0.98)
    return [*feet, _solid(_post(shape), (0, 0.06 + block[1], 0), block, shape.cloth)]


def _back(shape: Design) -> list[Solid]:
    """Upright first, then leaned backwards."""
    wide, half, high, wood = _wide(shape), shape.post, shape.high, shape.wood
    base, z = shape.seat - shape.thick, -shape.deep + half
    if shape.style == 1:
        wide, z = 0.9 * wide, -0.75 * shape.deep
    top = base + high
    x = wide - half
    posts = [_beam(shape, (s * x, base, z), (s * x, top, z), half, wood) for s in (-1, 1)]
    rail = _solid("box", (0, top - 0.04, z), (wide, 0.04, half), wood)
    kind = BACKS[shape.back]
    if kind == "panel":
        solids = [_solid("box", (0, base + high / 2, z), (wide, high / 2, half), shape.cloth)]
        if shape.style == 1:  # with a round top
            solids = [
                _solid("box", (0, base + high / 3, z), (wide, high / 3, half), shape.cloth),
                _disc((0, base + high / 1.5, z), wide, high / 3, half, shape.cloth),
            ]
    elif kind == "spindles":
        places = np.linspace(-x, x, shape.bars + 2)[1:-1]
        solids = [*posts, rail] + [
            _beam(shape, (p, base, z), (p, top - 0.04, z), 0.011, wood) for p in places
        ]
    elif kind == "slats":
        count = shape.bars // 2
        slat = high / (2.6 * count)
        heights = top - slat / 2 - (high * 0.8) * np.arange(count) / count
        solids = posts + [_solid("box", (0, h, z), (x, slat / 2, half * 0.7), shape.cloth)
                          for h in heights]  # fmt: skip
    else:
        solids = [_disc((0, top - 0.38 * high, z), wide, 0.38 * high, half, shape.cloth)]
        solids += [_beam(shape, (s * wide / 2, base, z), (s * wide / 2, base + high / 2, z), half,
                         wood) for s in (-1, 1)]  # fmt: skip
    return [_leaned(solid, shape.tilt, base) for solid in solids]


def _disc(centre: tuple, wide: float, high: float, half: float, grey: float) -> Solid:
    """A cylinder that faces the front."""
    axes = np.array([[wide, 0, 0], [0, 0, -high], [0, half, 0]])
    return Solid("cylinder", np.array(centre, float), axes, grey)


def _leaned(solid: Solid, slope: float, base: float) -> Solid:
    centre, axes = solid.centre.copy(), solid.axes.copy()
    centre[2] -= slope * (centre[1] - base)
    axes[2] -= slope * axes[1]
    return solid._replace(centre=centre, axes=axes)


def _arms(shape: Design) -> list[Solid]:
    wide, deep, half = _wide(shape), shape.deep, shape.post
    front = 0.7 * deep
    if shape.style == 1:  # a round seat has no corners
        wide, front = 0.92 * wide, 0.3 * deep
    kind, rest = ARMS[shape.arms], shape.seat + 0.2
    if kind == "none":
        return []
    solids = []
    for s in (-1, 1):
        x = s * (wide + half)
        if kind == "open":
            arm = (0.025, 0.014, deep * 0.95)
            solids.append(_solid("box", (x, rest, -0.05 * deep), arm, shape.wood))
            solids.append(_beam(shape, (x, shape.seat - 0.05, front), (x, rest, front), half,
                                shape.wood))  # fmt: skip
        else:
            low = shape.seat - 0.12
            panel = (0.03, (rest - low) / 2, deep)
            solids.append(_solid("box", (x, (low + rest) / 2, 0), panel, shape.cloth))
            if shape.style == 1:
                axes = np.array([[0.04, 0, 0], [0, 0, -0.04], [0, deep, 0]])
                solids.append(Solid("cylinder", np.array([x, rest, 0]), axes, shape.cloth))
    return solids


def _fitted(solids: list[Solid]) -> list[Solid]:
    """Moved so that the middle of its bounds is the origin, scaled to reach 1 in its pictures.

    From an elevation e a point (x, y, z) is no farther than max(r, |y| cos e + r sin e) from the
    picture's middle, r its distance from the vertical axis.
    """
    signs = np.array(list(np.ndindex(2, 2, 2))) * 2.0 - 1
    corners = np.concatenate([s.centre + (signs[:, None] * s.axes).sum(-1) for s in solids])
    middle = (corners.min(0) + corners.max(0)) / 2
    x, y, z = (corners - middle).T
    aside = np.hypot(x, z)
    reach = max(
        np.maximum(aside, abs(y) * math.cos(e) + aside * math.sin(e)).max()
        for e in (math.radians(20), math.radians(30))
    )
    return [s._replace(centre=(s.centre - middle) / reach, axes=s.axes / reach) for s in solids]
