"""Parametric heads: an identity's shape, drawn at random, and the solids that make it.

The head's half height is about 1; it looks towards +z. It has no hair, like the Basel Face Model,
whose renders the paper has: hair would be what differs most between two images.
"""

from __future__ import annotations

import math
import random
from typing import NamedTuple

import numpy as np

from fastinfogan.data.render.solids import Kind, Solid

SIDES = (-1, 1)


def head(identity: int) -> list[Solid]:
    """The head of that number: always the same."""
    # Only random(), whose values Python keeps from version to version.
    draw = random.Random(identity).random

    def between(low: float, high: float) -> float:
        return low + (high - low) * draw()

    skin, brow_grey = between(0.6, 0.95), between(0.12, 0.55)
    jaw, chin, cheek = between(0.5, 0.64), between(0.18, 0.3), between(0.18, 0.28)
    long = between(0.66, 0.8)  # of the lower half of the face
    eyes_apart, eyes_high, eye = between(0.25, 0.33), between(0.0, 0.1), between(0.11, 0.15)
    nose_long, nose_wide, nose_out = between(0.3, 0.46), between(0.09, 0.14), between(0.1, 0.24)
    mouth_wide, lips = between(0.17, 0.27), between(0.04, 0.075)
    brow_high, brow_thick = between(0.17, 0.25), between(0.03, 0.06)
    ear = between(0.16, 0.25)

    skull, face = _Egg(0.25, -0.12, 0.74, 0.76, 0.85), _Egg(-0.28, 0.1, jaw, long, 0.7)

    def front(x: float, y: float) -> float:
        """Where the skin is."""
        return max(egg.front(x, y) for egg in (skull, face))

    mouth, tip = eyes_high - nose_long - 0.24, eyes_high - nose_long
    brow = eyes_high + brow_high
    lip, nostrils, cheeks = front(0, mouth), front(0, tip), front(0.25, -0.24) - 0.275
    eyes, brows = front(eyes_apart, eyes_high), front(eyes_apart * 1.05, brow)
    solids = [
        skull.solid(skin),
        face.solid(skin),
        _egg((0, -0.14 - long, 0.28), (chin, 0.2, 0.3), skin),
        _egg((0, mouth, lip - 0.2), (mouth_wide + 0.1, 0.24, 0.24), skin),
        _nose((eyes_high + 0.08, front(0, eyes_high) - 0.06), (tip, nostrils + nose_out - 0.08),
              nose_wide * 0.8, skin),
        _egg((0, tip, nostrils), (nose_wide * 1.3, 0.085, 0.12), skin),
        _egg((0, mouth + lips * 0.8, lip), (mouth_wide, lips, 0.07), 0.55 * skin),
        _egg((0, mouth - lips * 0.9, lip), (0.85 * mouth_wide, lips, 0.07), 0.6 * skin),
        _solid("box", (0, mouth, lip), (mouth_wide * 0.85, 0.014, 0.065), 0.1),
        _solid("cylinder", (0, -1.3, -0.2), (0.42, 0.6, 0.42), 0.95 * skin),
    ]  # fmt: skip
    for side in SIDES:
        x = side * eyes_apart
        solids += [
            _egg((side * 0.25, -0.24, cheeks), (cheek, cheek * 0.9, 0.29), skin),
            _egg((side * 0.73, 0.0, -0.12), (0.09, ear, 0.15), 0.9 * skin),
            _egg((x, eyes_high, eyes - 0.07), (eye, eye * 0.62, 0.12), 0.95),
            _egg((x, eyes_high, eyes), (0.062, 0.07, 0.07), 0.05),
            _egg((x * 1.05, brow, brows - 0.06), (0.18, brow_thick, 0.1), brow_grey),
        ]
    return solids


class _Egg(NamedTuple):
    """An upright ellipsoid about the plane between left and right.

    Attributes:
        y, z: of its centre.
        wide, high, deep: half of its extents.
    """

    y: float
    z: float
    wide: float
    high: float
    deep: float

    def front(self, x: float, y: float) -> float:
        """How far it reaches towards +z at a place; its middle's z where it isn't."""
        left = 1 - (x / self.wide) ** 2 - ((y - self.y) / self.high) ** 2
        return self.z + self.deep * math.sqrt(max(left, 0.0))

    def solid(self, grey: float) -> Solid:
        return _egg((0, self.y, self.z), (self.wide, self.high, self.deep), grey)


def _solid(kind: Kind, centre: tuple, halves: tuple, grey: float) -> Solid:
    return Solid(kind, np.array(centre, float), np.diag(halves).astype(float), grey)


def _egg(centre: tuple, halves: tuple, grey: float) -> Solid:
    return _solid("ellipsoid", centre, halves, grey)


def _nose(top: tuple, tip: tuple, wide: float, grey: float) -> Solid:
    """An ellipsoid from between the eyes to the tip, each given as (y, z)."""
    top, tip = np.array([0.0, *top]), np.array([0.0, *tip])
    along = (tip - top) / 2
    out_of_face = np.array([0.0, along[2], -along[1]]) / math.hypot(*along)
    axes = np.stack([np.array([wide, 0, 0]), along * 1.15, 0.14 * out_of_face], 1)
    return Solid("ellipsoid", (top + tip) / 2, axes, grey)
