"""A folder of images, ingested as the command and the trainer do it."""

from __future__ import annotations

from pathlib import Path

from fastinfogan.data.dataset import LoadRequest
from fastinfogan.data.ingest.make import Ingested, ingest
from fastinfogan.data.sources.folder import folder_source


def request_for(folder: Path, size: int = 16, allow_bad: bool = False) -> LoadRequest:
    return LoadRequest(folder, "train", size, 3, progress=False, allow_bad=allow_bad)


def load(folder: Path, size: int = 16, allow_bad: bool = False) -> Ingested:
    request = request_for(folder, size, allow_bad)
    return ingest(folder_source(request), request)
