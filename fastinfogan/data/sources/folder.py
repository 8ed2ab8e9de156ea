"""``folder``: any directory of image files; other datasets of loose files build on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fastinfogan.data.data_dir import needed_data_dir
from fastinfogan.data.dataset import Dataset, LoadRequest
from fastinfogan.data.images import Annotations, Split
from fastinfogan.data.ingest.encoded import FolderFiles, identity
from fastinfogan.data.ingest.formats import EXPECTED
from fastinfogan.data.ingest.listing import list_images
from fastinfogan.data.ingest.preprocess import Preprocess
from fastinfogan.data.ingest.source import Source, encoded_items
from fastinfogan.data.sources.splits import Layout, find_layout
from fastinfogan.errors import UserError
from fastinfogan.sizes import counted

IMAGE_SIZES = (16, 28, 32, 64, 128)  # 28: for the MNIST networks
DEFAULT_IMAGE_SIZE, DEFAULT_CHANNELS = 32, 3


def folder_source(request: LoadRequest) -> Source:
    """Every image file under ``data_dir``: uint8 N x S x S x C, rows sorted by path.

    S and C are those of ``preprocess_of``. ``listing.list_images`` says which files count,
    ``pillow.decode`` how they are read. Folders like ``train`` and ``test`` are the splits
    (``splits.find_layout``); without them each split is
    all images. Labels are the first-level subfolders, sorted, when there are two or more and every
    good image lies in one; otherwise there are none.

    Raises:
        UserError: a size or a number of channels not listed above, or a directory without image
            files.
    """
    preprocess = preprocess_of("folder", request)
    root = needed_data_dir("folder", request.data_dir, EXPECTED)
    return files_source("folder", root, preprocess, subfolder_labels, split=request.split)


def preprocess_of(dataset: str, request: LoadRequest) -> Preprocess:
    """What is made of images whose shape is the user's choice.

    Args:
        dataset: its name in the registry.
        request: S is ``image_size`` (16, 28, 32, 64 or 128; default 32), C is ``channels`` (1 or 3;
            default 3).

    Raises:
        UserError: another size or number of channels.
    """
    size, channels = request.image_size, request.channels
    size = DEFAULT_IMAGE_SIZE if size is None else size
    channels = DEFAULT_CHANNELS if channels is None else channels
    if size not in IMAGE_SIZES:
        raise UserError(
            f"--image-size {size} does not go with --dataset {dataset}; choose one of "
            f"{', '.join(map(str, IMAGE_SIZES))}"
        )
    if channels not in (1, 3):
        raise UserError(f"--channels {channels} is not possible; choose 1 (grey) or 3 (colour)")
    return Preprocess(size, channels, stretch=request.stretch)


def files_source(
    dataset: str,
    root: Path,
    preprocess: Preprocess,
    annotate: Callable[[Sequence[str]], Annotations] = lambda names: Annotations(),
    wanted: Callable[[str], bool] = lambda name: True,
    split: Split | None = None,
) -> Source:
    """The image files below ``root`` whose path is ``wanted``.

    Args:
        dataset: its name in the registry.
        root: the folder.
        preprocess: what is made of each image.
        annotate: given the paths of the good ones, what is known of each; the folder that says
            their split is not in them.
        wanted: given a path relative to ``root``, whether it counts.
        split: which images, where folders like ``train`` and ``test`` tell them apart; None: all.

    Raises:
        UserError: no file is wanted.
    """
    listing = list_images(root)
    entries = [entry for entry in listing.entries if wanted(entry[0])]
    names = [name for name, _, _ in entries]
    where = f"--data-dir {str(root)!r}"
    if not names:
        pictures = listing.unread_pictures()
        but = f"; what it holds is not read: {pictures}" if pictures else ""
        raise UserError(f"{where} holds no {EXPECTED}, at any depth{but}")
    layout = None if split is None else find_layout(names)
    notes, count, part = listing.left_alone(), len(names), None
    if others := len(listing.entries) - len(names):
        notes = (f"left out: {counted(others, 'image')} of other names", *notes)
    if layout is not None:
        notes = (layout.describe(names), *notes)
        part = layout.chosen(split)
        count -= sum(1 for name in names if layout.part(name) is None)
        # Labels depend on it, and the same files without it would have others.
        entries.append((f"splits at depth {layout.depth}", 0, 0))
    if part is not None:
        names = [name for name in names if layout.part(name) == part]
        entries = [entry for entry in entries[:-1] if layout.part(entry[0]) == part]
    return Source(
        dataset=dataset,
        split="all" if part is None else split,
        shape=preprocess.shape,
        identity=identity([*entries, *((path, -1, 0) for path, _ in listing.unreadable)]),
        preprocessing=preprocess.description,
        what="image files",
        where=where,
        open=lambda: encoded_items(
            FolderFiles(root, names),
            preprocess,
            annotate=lambda kept: annotate([_rest(names[item], layout) for item in kept]),
            skipped=listing.unreadable,
            of=count,
        ),
        notes=notes,
    )


def files_status(data_dir: Path | None, what: str = EXPECTED) -> tuple[bool, str]:
    """The registry's status of a dataset that is a directory of image files."""
    if data_dir is None:
        return False, f"needs --data-dir: a directory with {what}"
    try:
        listing = list_images(data_dir)
    except UserError as error:
        return False, str(error)
    names = [name for name, _, _ in listing.entries]
    line = f"{len(names):,} image files in {str(data_dir)!r}"
    if pictures := listing.unread_pictures():
        line += f"; not read: {pictures}"
    if (layout := find_layout(names)) is not None:
        line += f"; {layout.describe(names)}"
    return bool(names), line


def subfolder_labels(names: Sequence[str]) -> Annotations:
    """First-level subfolders as labels, where that makes sense."""
    folders = [name.split("/")[0] if "/" in name else None for name in names]
    label_names = sorted({folder for folder in folders if folder is not None})
    outside = [name for name, folder in zip(names, folders, strict=True) if folder is None]
    if outside or len(label_names) < 2:
        return Annotations(no_labels=_no_labels(names, label_names, outside))
    index = {name: label for label, name in enumerate(label_names)}
    labels = np.array([index[folder] for folder in folders], np.int64)
    return Annotations(labels, tuple(label_names))


def _no_labels(names: Sequence[str], folders: Sequence[str], outside: Sequence[str]) -> str:
    if not folders:
        return "the images lie in no subfolders"
    if outside:
        return (
            f"{len(outside):,} of {len(names):,} images lie in no subfolder, such as {outside[0]!r}"
        )
    below = {name.split("/")[1] for name in names if name.count("/") > 1}
    deeper = f"; as --data-dir it would have {len(below):,}" if len(below) > 1 else ""
    return f"all images lie in one subfolder, {folders[0]!r}{deeper}"


def _rest(name: str, layout: Layout | None) -> str:
    return name if layout is None else layout.rest(name)


FOLDER = Dataset(
    name="folder",
    summary=f"any directory of {EXPECTED}, cut to squares; --data-dir",
    default_preset="folder",
    iterations=None,
    image_shape=None,
    has_test_split=True,
    source=folder_source,
    stretches=True,
    status=files_status,
)
