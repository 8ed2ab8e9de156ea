"""``faces``: renders of 3D face models, 32 x 32 grey.

The paper renders the Basel Face Model (Paysan et al. 2009), which needs a signed licence; any
folder of renders will do.
"""

from __future__ import annotations

from pathlib import Path

from fastinfogan.data.data_dir import needed_data_dir
from fastinfogan.data.dataset import Dataset, LoadRequest
from fastinfogan.data.ingest.preprocess import Preprocess
from fastinfogan.data.ingest.source import Source
from fastinfogan.data.sources.folder import files_source, files_status

SIDE = 32
EXPECTED = (
    "renders of faces as image files (the paper's are of the Basel Face Model, "
    "https://faces.dmi.unibas.ch, which needs a signed licence; rendered-faces needs no files)"
)


def faces_source(request: LoadRequest) -> Source:
    """Every image file below ``data_dir``: uint8 N x 32 x 32 x 1, rows sorted by path.

    Folders like ``train`` and ``test`` are the splits, as in ``folder``.
    """
    root = needed_data_dir("faces", request.data_dir, EXPECTED)
    preprocess = Preprocess(SIDE, 1, stretch=request.stretch)
    return files_source("faces", root, preprocess, split=request.split)


def faces_status(data_dir: Path | None) -> tuple[bool, str]:
    """See ``Dataset.status``."""
    return files_status(data_dir, EXPECTED)


FACES = Dataset(
    name="faces",
    summary="a directory of rendered faces, made 32x32 grey; --data-dir",
    default_preset="faces-azimuth",
    iterations=None,
    image_shape=(1, SIDE, SIDE),
    has_test_split=True,
    source=faces_source,
    stretches=True,
    status=faces_status,
)
