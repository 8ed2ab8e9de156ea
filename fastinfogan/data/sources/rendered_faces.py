"""``rendered-faces``: 40,000 renders of parametric heads with known factors, 32 x 32 grey.

They stand in for the paper's renders of the Basel Face Model, which needs a signed licence: 500
identities, each from 80 random views with a random lamp and width, on black.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from fastinfogan.data.dataset import Dataset, LoadRequest
from fastinfogan.data.factors import Factor
from fastinfogan.data.ingest.source import Source
from fastinfogan.data.render.head import head
from fastinfogan.data.render.solids import lamps_by, orbit, scenes_of
from fastinfogan.data.render.source import rendered_source

VERSION = 4  # of the images
SIDE, BLACK, AMBIENT = 32, 0.0, 0.25
IDENTITIES, VIEWS = 500, 80
DISTANCE, REACH = 6.0, 0.215  # of the camera; what a picture shows of a plane at distance 1
LAMP = 20.0  # degrees above the camera
FACTORS = (
    Factor("identity"),
    Factor("azimuth", "ordered"),
    Factor("elevation", "ordered"),
    Factor("lighting", "ordered"),
    Factor("width", "ordered"),
)
# Degrees of the camera to the face's left and upwards, degrees of the lamp to the picture's right,
# and per cent of an identity's own width: few values, so that each is met often.
VALUES = (range(-60, 61, 4), range(-40, 41, 4), range(-80, 81, 5), range(80, 121, 2))


def rendered_faces_source(request: LoadRequest) -> Source:
    """The faces: uint8 40000 x 32 x 32 x 1; factors in the units of ``VALUES``."""
    return rendered_source(request, "rendered-faces", VERSION, SIDE, FACTORS, all_faces, draw_faces)


def all_faces(identities: int = IDENTITIES) -> np.ndarray:
    """The factors of the first identities' images, int64 (N, F); an identity's are consecutive."""
    draw = random.Random(0).random  # whose values Python keeps from version to version
    rows = [
        (identity, *(values[int(len(values) * draw())] for values in VALUES))
        for identity in range(identities)
        for _ in range(VIEWS)
    ]
    return np.array(rows, np.int64)


def draw_faces(factors: np.ndarray) -> np.ndarray:
    """The renders of these rows of factors: uint8 (n, 32, 32)."""
    from fastinfogan.data.render.cast import render

    identities, which = np.unique(factors[:, 0], return_inverse=True)
    scenes = scenes_of([head(identity) for identity in identities.tolist()])[which]
    stretch = np.ones((len(factors), 3))
    stretch[:, 0] = factors[:, 4] / 100
    cameras = orbit(factors[:, 1], factors[:, 2], DISTANCE, REACH)
    lamps = lamps_by(cameras, factors[:, 3], np.full(len(factors), LAMP))
    return render(scenes.scaled(stretch), cameras, lamps, SIDE, BLACK, AMBIENT)


def rendered_faces_status(data_dir: Path | None) -> tuple[bool, str]:
    """See ``Dataset.status``."""
    return True, "rendered when they are first asked for, and kept"


RENDERED_FACES = Dataset(
    name="rendered-faces",
    summary="40,000 rendered faces with known factors, 32x32 grey; no download",
    default_preset="rendered-faces",
    iterations=None,
    image_shape=(1, SIDE, SIDE),
    has_test_split=False,
    source=rendered_faces_source,
    status=rendered_faces_status,
    built_in=True,
)
