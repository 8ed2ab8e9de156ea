"""``rendered-chairs``: 31,000 renders of parametric chairs with known factors, 64 x 64 grey.

They stand in for ``chairs``, which is a gigabyte to download: 500 models, each from 31 azimuths and
2 elevations, on white.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastinfogan.data.dataset import Dataset, LoadRequest
from fastinfogan.data.factors import Factor
from fastinfogan.data.ingest.source import Source
from fastinfogan.data.render.chair import chair, design
from fastinfogan.data.render.solids import lamps_by, orbit, scenes_of
from fastinfogan.data.render.source import rendered_source

VERSION = 2  # of the images
SIDE, WHITE, AMBIENT = 64, 1.0, 0.35
MODELS, AZIMUTHS, ELEVATIONS = 500, 31, (20, 30)
DISTANCE, REACH = 5.0, 0.2225  # of the camera; what a picture shows of a plane at distance 1
LAMP = 35.0  # degrees above the camera
FACTORS = (
    Factor("model"),
    Factor("azimuth", "cyclic", 360),
    Factor("elevation", "ordered"),
    Factor("width", "ordered"),
    Factor("style"),
    Factor("legs"),
    Factor("back"),
    Factor("arms"),
)


def rendered_chairs_source(request: LoadRequest) -> Source:
    """The chairs: uint8 31000 x 64 x 64 x 1; factors in the order and units of ``chairs``.

    ``model`` is a number, ``azimuth`` and ``elevation`` are whole degrees, ``width`` is per cent of
    a usual seat's, and the others index ``STYLES``, ``LEGS``, ``BACKS`` and ``ARMS`` of
    ``render.chair``. Azimuths are multiples of 360/31, rounded down as in ``chairs``.
    """
    return rendered_source(
        request, "rendered-chairs", VERSION, SIDE, FACTORS, all_chairs, draw_chairs
    )


def all_chairs(models: int = MODELS) -> np.ndarray:
    """The factors of every view of the first models, int64 (N, F); a model's are consecutive."""
    rows = [
        (model, azimuth * 360 // AZIMUTHS, elevation,
         shape.width, shape.style, shape.legs, shape.back, shape.arms)
        for model, shape in enumerate(map(design, range(models)))
        for elevation in ELEVATIONS
        for azimuth in range(AZIMUTHS)
    ]  # fmt: skip
    return np.array(rows, np.int64)


def draw_chairs(factors: np.ndarray) -> np.ndarray:
    """The renders of these rows of factors: uint8 (n, 64, 64).

    The model decides all that the azimuth and the elevation don't.
    """
    from fastinfogan.data.render.cast import render

    models, which = np.unique(factors[:, 0], return_inverse=True)
    scenes = scenes_of([chair(design(model)) for model in models.tolist()])[which]
    cameras = orbit(factors[:, 1], factors[:, 2], DISTANCE, REACH)
    lamps = lamps_by(cameras, np.zeros(len(factors)), np.full(len(factors), LAMP))
    return render(scenes, cameras, lamps, SIDE, WHITE, AMBIENT)


def rendered_chairs_status(data_dir: Path | None) -> tuple[bool, str]:
    """See ``Dataset.status``."""
    return True, "rendered when they are first asked for, and kept"


RENDERED_CHAIRS = Dataset(
    name="rendered-chairs",
    summary="31,000 rendered chairs with known factors, 64x64 grey; no download",
    default_preset="rendered-chairs",
    iterations=None,
    image_shape=(1, SIDE, SIDE),
    has_test_split=False,
    source=rendered_chairs_source,
    status=rendered_chairs_status,
    built_in=True,
)
