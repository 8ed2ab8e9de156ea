"""Solids, cameras and lamps: what is in a scene, in numbers of the host.

Space: x to the right, y up, z towards a viewer whom a thing at azimuth 0 faces. All is float64 and
elementwise, in an order that doesn't depend on how many scenes there are, so that a scene's numbers
are the same in whatever company it is computed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

Kind = Literal["box", "cylinder", "ellipsoid"]
KINDS: tuple[Kind, ...] = ("box", "cylinder", "ellipsoid")
NOTHING = -1  # the kind of an empty place


class Solid(NamedTuple):
    """A box, a cylinder or an ellipsoid: a unit solid, mapped into space.

    The unit solids reach from -1 to 1 along each axis; the cylinder stands upright.

    Attributes:
        kind: which.
        centre: (3,).
        axes: (3, 3); column i is where the unit solid's axis i goes, so its length is half of the
            solid's extent. Columns need not be at right angles.
        grey: how much light it reflects, 0 to 1.
    """

    kind: Kind
    centre: np.ndarray
    axes: np.ndarray
    grey: float


@dataclass(frozen=True)
class Scenes:
    """N scenes of at most P solids.

    Attributes:
        kinds: int64 (N, P): an index into ``KINDS``, or ``NOTHING``.
        centres: (N, P, 3).
        axes: (N, P, 3, 3), as in ``Solid``.
        greys: (N, P).
    """

    kinds: np.ndarray
    centres: np.ndarray
    axes: np.ndarray
    greys: np.ndarray

    def __getitem__(self, which: slice | np.ndarray) -> Scenes:
        return Scenes(self.kinds[which], self.centres[which], self.axes[which], self.greys[which])

    def __len__(self) -> int:
        return len(self.kinds)

    def scaled(self, factors: np.ndarray) -> Scenes:
        """Everything stretched from the origin, along x, y and z.

        Args:
            factors: (N, 3).
        """
        stretch = factors[:, None]
        return Scenes(
            self.kinds, self.centres * stretch, self.axes * stretch[..., None], self.greys
        )


@dataclass(frozen=True)
class Cameras:
    """N cameras that look at points near the origin.

    Attributes:
        eyes: (N, 3).
        forwards, rights, ups: (N, 3), of length 1 and at right angles.
        reach: half of the picture's side, at distance 1.
    """

    eyes: np.ndarray
    forwards: np.ndarray
    rights: np.ndarray
    ups: np.ndarray
    reach: float

    def __getitem__(self, which: slice | np.ndarray) -> Cameras:
        vectors = (self.eyes, self.forwards, self.rights, self.ups)
        return Cameras(*(vector[which] for vector in vectors), self.reach)


def scenes_of(many: Sequence[Sequence[Solid]]) -> Scenes:
    """Scenes as arrays, from lists of solids."""
    most = max(map(len, many))
    kinds = np.full((len(many), most), NOTHING)
    centres, greys = np.zeros((len(many), most, 3)), np.zeros((len(many), most))
    axes = np.tile(np.eye(3), (len(many), most, 1, 1))
    for row, solids in enumerate(many):
        for place, solid in enumerate(solids):
            kinds[row, place] = KINDS.index(solid.kind)
            centres[row, place], axes[row, place] = solid.centre, solid.axes
            greys[row, place] = solid.grey
    return Scenes(kinds, centres, axes, greys)


def orbit(
    azimuths: Sequence[float], elevations: Sequence[float], distance: float, reach: float
) -> Cameras:
    """Cameras on a sphere about the origin, looking at it.

    Args:
        azimuths: (N,), degrees; at 90 the camera sees what the thing has at +x.
        elevations: (N,), degrees above the horizon.
        distance: from the origin.
        reach: as in ``Cameras``.
    """
    # math's functions, not numpy's, which need not treat all places of an array alike.
    sine, cosine = (
        np.array([f(math.radians(a % 360)) for a in azimuths]) for f in (math.sin, math.cos)
    )
    rise, run = (np.array([f(math.radians(e)) for e in elevations]) for f in (math.sin, math.cos))
    zero = np.zeros(len(sine))
    away = np.stack([sine * run, rise, cosine * run], 1)
    rights = np.stack([cosine, zero, -sine], 1)
    ups = np.stack([-sine * rise, run, -cosine * rise], 1)
    return Cameras(distance * away, -away, rights, ups, reach)


def lamps_by(cameras: Cameras, sideways: np.ndarray, upwards: np.ndarray) -> np.ndarray:
    """Directions to lamps that move with the camera: (N, 3), of length 1.

    Args:
        cameras: N of them.
        sideways: (N,), degrees to the right of where the camera is.
        upwards: (N,), degrees above it.
    """
    turn = [(math.radians(s), math.radians(u)) for s, u in zip(sideways, upwards, strict=True)]
    right = np.array([math.sin(s) * math.cos(u) for s, u in turn])[:, None]
    up = np.array([math.sin(u) for _, u in turn])[:, None]
    back = np.array([math.cos(s) * math.cos(u) for s, u in turn])[:, None]
    return right * cameras.rights + up * cameras.ups - back * cameras.forwards


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The scalar products of vectors in the last axis."""
    products = a * b
    return products[..., 0] + products[..., 1] + products[..., 2]


def inverse(axes: np.ndarray) -> np.ndarray:
    """The inverses of matrices (..., 3, 3)."""
    x, y, z = (axes[..., i] for i in range(3))
    rows = np.stack([np.cross(y, z), np.cross(z, x), np.cross(x, y)], -2)
    return rows / dot(x, rows[..., 0, :])[..., None, None]
