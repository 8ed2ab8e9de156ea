"""``celeba``: 202,599 aligned photographs of faces (Liu et al. 2015), 32 x 32 RGB.

The images are cut from 178 x 218, and two lists say what is known of them: 40 attributes, and which
are for training (0), validation (1) and test (2). ``celeba_files`` says how they may lie on a disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fastinfogan.data.data_dir import directory_status, needed_data_dir
from fastinfogan.data.dataset import Dataset, LoadRequest
from fastinfogan.data.images import Annotations
from fastinfogan.data.ingest.encoded import (
    ChosenFiles,
    EncodedFiles,
    FolderFiles,
    entry_of,
    identity,
    open_archive,
)
from fastinfogan.data.ingest.listing import Listing, list_images
from fastinfogan.data.ingest.preprocess import Preprocess
from fastinfogan.data.ingest.source import Items, Source, encoded_items
from fastinfogan.data.sources.celeba_files import (
    ATTRIBUTES,
    EXPECTED,
    PARTITION,
    Found,
    chosen_members,
    find,
    is_image,
    is_named,
)
from fastinfogan.data.sources.celeba_lists import (
    NUMBER,
    ListFile,
    in_order,
    key_of,
    read_attributes,
    read_partition,
)
from fastinfogan.errors import UserError

COUNT = 202_599
# Of the 178 x 218: face, hair and chin, and four pixels to one.
PREPROCESS = Preprocess(size=32, channels=3, crop=128)


def celeba_source(request: LoadRequest) -> Source:
    """One split: uint8 N x 32 x 32 x 3, rows sorted by name; factors: the 40 attributes, 0 or 1.

    Without the list of attributes there are no factors; without the partition both splits are
    all the images.
    """
    root = needed_data_dir("celeba", request.data_dir, EXPECTED)
    found = find(root)
    listing = list_images(found.images) if found.images.is_dir() else None
    lists = [file for file in (found.attributes, found.partition) if file is not None]
    entries = [entry_of(file.path) for file in lists]
    entries += [entry_of(found.images)] if listing is None else listing.entries
    return Source(
        dataset="celeba",
        split="all" if found.partition is None else request.split,
        shape=PREPROCESS.shape,
        identity=identity(entries),
        preprocessing=PREPROCESS.description,
        what="images",
        where=f"--data-dir {str(root)!r}",
        open=lambda: _open(found, listing, request.split),
        notes=(*_place(found, root), *_notes(found, listing)),
    )


def celeba_status(data_dir: Path | None) -> tuple[bool, str]:
    """See ``Dataset.status``."""

    def look(root: Path) -> str:
        found = find(root)
        lists = {ATTRIBUTES: found.attributes, PARTITION: found.partition}
        missing = [f"{name}.txt" for name, file in lists.items() if file is None]
        without = f", without {' and '.join(missing)}" if missing else ""
        return f"{found.images.name} is in {str(root)!r}{without}"

    return directory_status(data_dir, EXPECTED, look)


def _place(found: Found, root: Path) -> tuple[str, ...]:
    """Which folder was taken, in a line, where its name doesn't say that it is the one."""
    folder = found.images
    if folder == root or not folder.is_dir() or is_named(folder):
        return ()
    return (f"images are those in {folder.relative_to(root).as_posix()}/",)


def _notes(found: Found, listing: Listing | None) -> tuple[str, ...]:
    lines = [
        f"no factors: there is no {ATTRIBUTES}.txt or .csv"
        if found.attributes is None
        else f"factors are those of {found.attributes.name}",
        f"no splits: there is no {PARTITION}.txt or .csv, so all are trained and evaluated on"
        if found.partition is None
        else f"splits are those of {found.partition.name}",
    ]
    return (*lines, *(() if listing is None else listing.left_alone()))


def _open(found: Found, listing: Listing | None, split: str) -> Items:
    partition = None if found.partition is None else read_partition(found.partition)
    names, values = (), None
    if found.attributes is not None:
        names, values = read_attributes(found.attributes)
    files: EncodedFiles
    if listing is not None:
        files = FolderFiles(found.images, [name for name, _, _ in listing.entries])
        members = list(range(len(files.names)))
    else:
        files = open_archive(found.images, is_image)
        members = chosen_members(files.names)
    known, unknown = [], []
    for member in members:
        name = files.names[member]
        for file, lines in ((found.partition, partition), (found.attributes, values)):
            if lines is not None and key_of(name) not in lines:
                if NUMBER.fullmatch(key_of(name)):
                    raise file.lacks(name)
                unknown.append((name, f"not in {file.name}"))
                break
        else:
            known.append(member)
    chosen = known
    if partition is not None:
        chosen = [member for member in known if partition[key_of(files.names[member])] == split]
    if not chosen:
        raise _no_image(found, split, bool(known))
    kept_files = ChosenFiles(files, chosen)
    return encoded_items(
        kept_files,
        PREPROCESS,
        annotate=lambda kept: _factors(
            found.attributes, names, values, [kept_files.names[item] for item in kept]
        ),
        skipped=[*(() if listing is None else listing.unreadable), *unknown],
        of=len(known),
        notes=_missing(found, len(known), partition if values is None else values),
    )


def _missing(found: Found, there: int, listed: Mapping[str, object] | None) -> tuple[str, ...]:
    """That only a part of the images is there, in a line."""
    file = found.attributes or found.partition
    all_of_them = COUNT if listed is None else len(listed)
    if there >= all_of_them:
        return ()
    those = "of CelebA" if file is None else f"that {file.name} lists"
    return (f"{there:,} of the {all_of_them:,} images {those} are there",)


def _no_image(found: Found, split: str, of_others: bool) -> UserError:
    start = f"--data-dir {str(found.images.parent)!r}: {found.images.name} holds no image"
    if not of_others:
        return UserError(f"{start} of CelebA's (000001.jpg and so on); fetch it again")
    return UserError(
        f"{start} of the {split} split; with {found.partition.name} moved elsewhere, all are "
        "trained and evaluated on"
    )


def _factors(
    file: ListFile | None,
    columns: tuple[str, ...],
    values: dict | None,
    names: Sequence[str],
) -> Annotations:
    if file is None:
        return Annotations()
    return Annotations(factors=in_order(values, file, names), factor_names=columns)


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
