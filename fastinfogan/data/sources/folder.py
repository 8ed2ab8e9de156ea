"""``folder``: any directory of image files; other datasets of loose files build on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fastinfogan.data.data_dir import needed_data_dir
from fastinfogan.data.dataset import Dataset, LoadRequest
from fastinfogan.data.images import Annotations
from fastinfogan.data.ingest.encoded import EXPECTED, SUFFIXES, FolderFiles, identity, list_images
from fastinfogan.data.ingest.preprocess import Preprocess
from fastinfogan.data.ingest.source import Source, encoded_items
from fastinfogan.errors import UserError

IMAGE_SIZES = (16, 28, 32, 64, 128)  # 28: for the MNIST networks
DEFAULT_IMAGE_SIZE, DEFAULT_CHANNELS = 32, 3


def folder_source(request: LoadRequest) -> Source:
    """Every image file under ``data_dir``: uint8 N x S x S x C, rows sorted by path.

    S is ``image_size`` (16, 28, 32, 64 or 128; default 32), C is ``channels`` (1 or 3; default 3).
    ``encoded.list_images`` says which files count, ``pillow.decode`` how they are read. The train
    and the test split are the same images. Labels are the first-level subfolders, sorted, when
    there are two or more and every good image lies in one; otherwise there are none.

    Raises:
        UserError: a size or a number of channels not listed above, or a directory without image
            files.
    """
    size, channels = request.image_size, request.channels
    size = DEFAULT_IMAGE_SIZE if size is None else size
    channels = DEFAULT_CHANNELS if channels is None else channels
    if size not in IMAGE_SIZES:
        raise UserError(
            f"--image-size {size} does not go with --dataset folder; choose one of "
            f"{', '.join(map(str, IMAGE_SIZES))}"
        )
    if channels not in (1, 3):
        raise UserError(f"--channels {channels} is not possible; choose 1 (grey) or 3 (colour)")
    root = needed_data_dir("folder", request.data_dir, EXPECTED)
    preprocess = Preprocess(size, channels, stretch=request.stretch)
    return files_source("folder", root, preprocess, subfolder_labels)


def files_source(
    dataset: str,
    root: Path,
    preprocess: Preprocess,
    annotate: Callable[[Sequence[str]], Annotations] = lambda names: Annotations(),
    wanted: Callable[[str], bool] = lambda name: True,
) -> Source:
    """The image files below ``root`` whose path is ``wanted``.

    Args:
        dataset: its name in the registry.
        root: the folder.
        preprocess: what is made of each image.
        annotate: given the paths of the good ones, what is known of each.
        wanted: given a path relative to ``root``, whether it counts.

    Raises:
        UserError: no file is wanted.
    """
    entries, unreadable = list_images(root)
    entries = [entry for entry in entries if wanted(entry[0])]
    names = [name for name, _, _ in entries]
    where = f"--data-dir {str(root)!r}"
    if not names:
        raise UserError(f"{where} holds no {EXPECTED}, at any depth")
    return Source(
        dataset=dataset,
        split="all",
        shape=preprocess.shape,
        identity=identity([*entries, *((path, -1, 0) for path, _ in unreadable)]),
        preprocessing=preprocess.description,
        what="image files",
        where=where,
        open=lambda: encoded_items(
            FolderFiles(root, names),
            preprocess,
            annotate=lambda kept: annotate([names[item] for item in kept]),
            skipped=unreadable,
        ),
    )


def files_status(data_dir: Path | None, what: str = EXPECTED) -> tuple[bool, str]:
    """The registry's status of a dataset that is a directory of image files."""
    if data_dir is None:
        return False, f"needs --data-dir: a directory with {what}"
    try:
        entries, _ = list_images(data_dir)
    except UserError as error:
        return False, str(error)
    return bool(entries), f"{len(entries):,} image files in {str(data_dir)!r}"


def subfolder_labels(names: Sequence[str]) -> Annotations:
    """First-level subfolders as labels, where that makes sense."""
    folders = [name.split("/")[0] if "/" in name else None for name in names]
    label_names = sorted({folder for folder in folders if folder is not None})
    if None in folders or len(label_names) < 2:
        return Annotations()
    index = {name: label for label, name in enumerate(label_names)}
    labels = np.array([index[folder] for folder in folders], np.int64)
    return Annotations(labels, tuple(label_names))


FOLDER = Dataset(
    name="folder",
    summary=f"any directory of images ({', '.join(SUFFIXES)}), cut to squares; --data-dir",
    default_preset="folder",
    iterations=None,
    image_shape=None,
    has_test_split=False,
    source=folder_source,
    stretches=True,
    status=files_status,
)
