"""``celeba``: 202,599 aligned photographs of faces (Liu et al. 2015), 32 x 32 RGB.

The files as they are given out, directly in ``--data-dir`` or in its Img/, Anno/ and Eval/:
``img_align_celeba/`` or ``img_align_celeba.zip``, ``list_attr_celeba.txt`` (40 attributes) and
``list_eval_partition.txt`` (0 train, 1 validation, 2 test).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fastinfogan.data.data_dir import (
    directory_status,
    needed_data_dir,
    require_directory,
    spoilt,
)
from fastinfogan.data.dataset import Dataset, LoadRequest
from fastinfogan.data.images import Annotations
from fastinfogan.data.ingest.encoded import (
    EncodedFiles,
    FolderFiles,
    entry_of,
    identity,
    list_images,
    open_archive,
)
from fastinfogan.data.ingest.preprocess import Preprocess
from fastinfogan.data.ingest.source import Items, Source, encoded_items
from fastinfogan.errors import UserError

FOLDER, ARCHIVE = "img_align_celeba", "img_align_celeba.zip"
ATTRIBUTES, PARTITION = "list_attr_celeba.txt", "list_eval_partition.txt"
PARTS = {"train": "0", "test": "2"}
# Of the 178 x 218: face, hair and chin, and four pixels to one.
PREPROCESS = Preprocess(size=32, channels=3, crop=128)
EXPECTED = (
    f"{FOLDER}/ or {ARCHIVE}, with {ATTRIBUTES} and {PARTITION} if you have them, from "
    "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html (its drives ask for a log-in)"
)


def celeba_source(request: LoadRequest) -> Source:
    """One split: uint8 N x 32 x 32 x 3, rows sorted by name; factors: the 40 attributes, 0 or 1.

    Without the list of attributes there are no factors; without the partition both splits are
    all the images.
    """
    root = needed_data_dir("celeba", request.data_dir, EXPECTED)
    images = _images(root)
    attributes, partition = _find(root, ATTRIBUTES), _find(root, PARTITION)
    entries = [entry_of(path) for path in (attributes, partition) if path is not None]
    entries += list_images(images)[0] if images.is_dir() else [entry_of(images)]
    return Source(
        dataset="celeba",
        split="all" if partition is None else request.split,
        shape=PREPROCESS.shape,
        identity=identity(entries),
        preprocessing=PREPROCESS.description,
        what="images",
        where=f"--data-dir {str(root)!r}",
        open=lambda: _open(images, attributes, partition, request.split),
    )


def celeba_status(data_dir: Path | None) -> tuple[bool, str]:
    """See ``Dataset.status``."""

    def look(root: Path) -> str:
        images = _images(root)
        lists = [name for name in (ATTRIBUTES, PARTITION) if _find(root, name) is None]
        without = f", without {' and '.join(lists)}" if lists else ""
        return f"{images.name} is in {str(root)!r}{without}"

    return directory_status(data_dir, EXPECTED, look)


def _images(root: Path) -> Path:
    require_directory(root, EXPECTED)
    if root.name == FOLDER and not (root / FOLDER).exists():
        return root
    found = _find(root, FOLDER) or _find(root, ARCHIVE)
    if found is None:
        raise UserError(f"--data-dir {str(root)!r} lacks {EXPECTED}")
    return found


def _find(root: Path, name: str) -> Path | None:
    candidates = (root / folder / name for folder in ("", "Img", "Anno", "Eval"))
    return next((path for path in candidates if path.exists()), None)


def _open(images: Path, attributes: Path | None, partition: Path | None, split: str) -> Items:
    part = None if partition is None else dict(_rows(partition, columns=1))

    def wanted(path: str) -> bool:
        name = path.rpartition("/")[2]
        if not name.lower().endswith(".jpg"):
            return False
        if part is None:
            return True
        if name not in part:
            raise _lacks(partition, name)
        return part[name][0] == PARTS[split]

    files: EncodedFiles
    if images.is_dir():
        names = [name for name, _, _ in list_images(images)[0]]
        files = FolderFiles(images, [name for name in names if wanted(name)])
    else:
        files = open_archive(
            images, lambda name: f"/{name}".count(f"/{FOLDER}/") == 1 and wanted(name)
        )
    if not files.names:
        raise UserError(
            f"--data-dir {str(images.parent)!r}: {images.name} holds no image of the {split} split"
        )
    return encoded_items(
        files,
        PREPROCESS,
        annotate=lambda kept: _factors(attributes, [files.names[item] for item in kept]),
    )


def _factors(path: Path | None, names: Sequence[str]) -> Annotations:
    if path is None:
        return Annotations()
    columns = _lines(path)[1].split()  # after the number of images
    values = dict(_rows(path, len(columns), skip=2))
    try:
        rows = [values[name.rpartition("/")[2]] for name in names]
    except KeyError as error:
        raise _lacks(path, error.args[0]) from None
    factors = (np.array(rows) == "1").astype(np.int64)
    return Annotations(factors=factors, factor_names=tuple(columns))


def _rows(path: Path, columns: int, skip: int = 0) -> Iterator[tuple[str, list[str]]]:
    """(name, values) of each line.

    Raises:
        UserError: a line has another number of values than ``columns``.
    """
    for number, line in enumerate(_lines(path)[skip:], skip + 1):
        name, *values = line.split() or [""]
        if name and len(values) != columns:
            raise spoilt(path, f"has {len(values)} values in line {number}, not {columns}")
        yield name, values


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError as error:
        raise spoilt(path, f"cannot be read ({error.strerror})") from None
    return lines if len(lines) > 2 else [*lines, "", ""]


def _lacks(path: Path, name: str) -> UserError:
    return spoilt(path, f"has no line for {name}")


CELEBA = Dataset(
    name="celeba",
    summary="202,599 photographs of faces, made 32x32 colour; --data-dir",
    default_preset="celeba",
    iterations=None,
    image_shape=(3, 32, 32),
    has_test_split=True,
    source=celeba_source,
    status=celeba_status,
)
