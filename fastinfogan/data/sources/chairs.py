"""``chairs``: 1,393 chairs, each rendered from 62 sides (Aubry et al. 2014), 64 x 64 grey.

``rendered_chairs/MODEL/renders/image_NNN_pPPP_tTTT_rRRR.png``: p is the elevation and t the
azimuth of the camera in degrees, r its distance.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fastinfogan.data.data_dir import directory_status, needed_data_dir, require_directory
from fastinfogan.data.dataset import Dataset, LoadRequest
from fastinfogan.data.factors import Factor
from fastinfogan.data.images import Annotations
from fastinfogan.data.ingest.encoded import entry_of, identity, open_archive
from fastinfogan.data.ingest.preprocess import Preprocess
from fastinfogan.data.ingest.source import Items, Source, encoded_items
from fastinfogan.data.sources.folder import files_source
from fastinfogan.errors import UserError

FOLDER, ARCHIVE = "rendered_chairs", "rendered_chairs.tar"
ARCHIVES = (ARCHIVE, f"{ARCHIVE}.gz", "rendered_chairs.tgz", f"{ARCHIVE}.bz2", f"{ARCHIVE}.xz",
            "rendered_chairs.zip")  # fmt: skip
PATTERN = re.compile(r"(?:^|/)([^/]+)/renders/[^/]*_p(\d+)_t(\d+)_r\d+\.png$")
# The renders are 600 x 600, with a wide white margin.
PREPROCESS = Preprocess(size=64, channels=1, crop=400)
FACTORS = (Factor("model"), Factor("azimuth", "cyclic", 360), Factor("elevation", "ordered"))
EXPECTED = (
    f"{FOLDER}/ or {ARCHIVE}, from https://www.di.ens.fr/willow/research/seeing3Dchairs/ "
    "(rendered-chairs needs no files)"
)


def chairs_source(request: LoadRequest) -> Source:
    """The renders: uint8 N x 64 x 64 x 1, rows sorted by path; factors model, azimuth, elevation.

    The factor ``model`` numbers the models by name; the angles are degrees.
    """
    root = needed_data_dir("chairs", request.data_dir, EXPECTED)
    found = _find(root)
    if found.is_dir():
        source = files_source("chairs", found, PREPROCESS, view_factors, is_render)
        return replace(source, factors=FACTORS)
    return Source(
        dataset="chairs",
        split="all",
        shape=PREPROCESS.shape,
        identity=identity([entry_of(found)]),
        preprocessing=PREPROCESS.description,
        what="renders",
        where=f"--data-dir {str(root)!r}",
        open=lambda: _open(found),
        factors=FACTORS,
    )


def chairs_status(data_dir: Path | None) -> tuple[bool, str]:
    """See ``Dataset.status``."""
    return directory_status(
        data_dir, EXPECTED, lambda found: f"{_find(found).name} is in {str(found)!r}"
    )


def is_render(name: str) -> bool:
    """Whether a path is that of a render."""
    return PATTERN.search(name) is not None


def view_factors(names: Sequence[str]) -> Annotations:
    """Model, azimuth and elevation, read from the paths of renders."""
    matches = [PATTERN.search(name).groups() for name in names]
    models = {name: i for i, name in enumerate(sorted({model for model, _, _ in matches}))}
    factors = [
        (models[model], int(azimuth), int(elevation)) for model, elevation, azimuth in matches
    ]
    return Annotations(
        factors=np.array(factors, np.int64), factor_names=tuple(row.name for row in FACTORS)
    )


def _find(data_dir: Path) -> Path:
    """The folder or the archive, in ``data_dir`` or being it."""
    require_directory(data_dir, EXPECTED)
    if data_dir.name == FOLDER and not (data_dir / FOLDER).exists():
        return data_dir
    for name in (FOLDER, *ARCHIVES):
        if (data_dir / name).exists():
            return data_dir / name
    raise UserError(f"--data-dir {str(data_dir)!r} lacks {EXPECTED}")


def _open(path: Path) -> Items:
    files = open_archive(path, is_render)
    if not files.names:
        raise UserError(
            f"--data-dir {str(path.parent)!r}: {path.name} holds no MODEL/renders/*.png; "
            "fetch it again"
        )
    return encoded_items(
        files,
        PREPROCESS,
        annotate=lambda kept: view_factors([files.names[item] for item in kept]),
    )


CHAIRS = Dataset(
    name="chairs",
    summary="86,366 renders of 1,393 chairs, made 64x64 grey; --data-dir",
    default_preset="chairs-rotation",
    iterations=None,
    image_shape=(1, 64, 64),
    has_test_split=False,
    source=chairs_source,
    status=chairs_status,
)
