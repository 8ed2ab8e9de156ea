"""Where CelebA's images and lists are, in whatever way they reached a disk."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from fastinfogan.data.data_dir import require_directory
from fastinfogan.data.ingest.encoded import open_archive
from fastinfogan.data.ingest.listing import is_folder, is_own, is_system
from fastinfogan.data.sources.celeba_lists import NUMBER, SUFFIX, ListFile, base_name, key_of
from fastinfogan.errors import UserError

FOLDER, ARCHIVE = "img_align_celeba", "img_align_celeba.zip"
ATTRIBUTES, PARTITION = "list_attr_celeba", "list_eval_partition"
EXPECTED = (
    f"{FOLDER}/ or {ARCHIVE}, with {ATTRIBUTES}.txt and {PARTITION}.txt (or .csv) if you have "
    "them, from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html (its drives ask for a log-in)"
)
# CelebA/Img/img_align_celeba/img_align_celeba/x.jpg, seen from above CelebA.
DEEPEST, MOST_FOLDERS = 4, 1000
_IMAGES = re.compile(rf"{FOLDER}(?:_png)?", re.IGNORECASE)
# A copy in the browser's downloads, "(1)"; what drives add, "-20240101T120000Z-001".
_ARCHIVE = re.compile(
    rf"{FOLDER}(?:_png)?(?:[ _-].*)?\.(?:zip|tgz|tar(?:\.(?:gz|bz2|xz))?)", re.IGNORECASE
)
_WHOLE = re.compile(r"archive(?: \(\d+\))?\.zip|.*celeb-?a.*\.zip", re.IGNORECASE)
_PACKED = re.compile(rf"{FOLDER}.*\.(?:7z(?:\.\d+)?|rar|z\d+)", re.IGNORECASE)
_LIST = r"(?:[ _-]*(?:\(\d+\)|copy))?(?:\.(?:txt|csv|tsv))+(?:\.(?:gz|zip))?"


class Found(NamedTuple):
    """What there is.

    Attributes:
        images: a folder or an archive.
        attributes, partition: the lists, or None.
    """

    images: Path
    attributes: ListFile | None
    partition: ListFile | None


def find(root: Path) -> Found:
    """CelebA's files below ``root``, or beside it where ``root`` is the images' own folder.

    Raises:
        UserError: no images are there.
    """
    require_directory(root, EXPECTED)
    folders, files = _walk(root)
    images = _find_images(root, folders, files)
    attributes, partition = (_find_list(name, files) for name in (ATTRIBUTES, PARTITION))
    if None in (attributes, partition) and is_named(root.absolute()):
        beside = list(_beside(root.absolute()))
        attributes = attributes or _find_list(ATTRIBUTES, beside)
        partition = partition or _find_list(PARTITION, beside)
    if None in (attributes, partition) and images.suffix.lower() == ".zip":
        attributes = attributes or _list_inside(images, ATTRIBUTES)
        partition = partition or _list_inside(images, PARTITION)
    return Found(images, attributes, partition)


def chosen_members(names: list[str]) -> list[int]:
    """Which images of an archive are the aligned ones: those in their folder, if there is one."""

    def those(is_one: Iterable[bool]) -> list[int]:
        return [index for index, one in enumerate(is_one) if one]

    paths = [re.split(r"[/\\]", name) for name in names]
    return (
        those(any(map(_IMAGES.fullmatch, path[:-1])) for path in paths)
        or those(bool(NUMBER.fullmatch(key_of(name))) for name in names)
        or those(True for _ in names)
    )


def is_image(name: str) -> bool:
    """Whether a member of an archive is an image, by its name."""
    return SUFFIX.search(name) is not None


def is_named(folder: Path) -> bool:
    """Whether a folder is called as that of the aligned images is."""
    return _IMAGES.fullmatch(folder.name) is not None


def _walk(root: Path) -> tuple[list[Path], list[Path]]:
    """Folders, ``root`` first, and files that aren't numbered images; the nearest first."""
    folders, files, level = [root], [], [root]
    for _ in range(DEEPEST):
        below = []
        for folder in level:
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError:  # reading the images will say so, if it is theirs
                continue
            for entry in entries:
                name = entry.name
                if name[0] == "." or is_system(name) or is_image(name):
                    continue
                (below if is_folder(entry) else files).append(folder / name)
        level = below[: max(0, MOST_FOLDERS - len(folders))]
        folders += level
    return folders, files


def _find_images(root: Path, folders: list[Path], files: list[Path]) -> Path:
    for folder in folders:
        named = folder if folder != root else root.absolute()
        if is_named(named) and _holds_images(folder):
            return folder
    archives = [path for path in files if _ARCHIVE.fullmatch(path.name)]
    exact = [path for path in archives if path.name.lower() == ARCHIVE]
    # Drives give large folders out in several parts.
    parts = [path for path in archives if re.search(r"-\d{3}\.zip$", path.name)]
    if not exact and len(parts) > 1:
        raise UserError(
            f"--data-dir {str(root)!r} holds {len(parts)} archives, {parts[0].name} and others; "
            f"unpack them all into one folder {FOLDER}/"
        )
    for path in (*exact, *archives):
        return path
    for folder in folders:
        if folder.name.lower() != "img_celeba" and _holds_numbered(folder):  # the uncropped ones
            return folder
    packed = [path.name for path in files if _PACKED.fullmatch(path.name)]
    for path in files:
        if _WHOLE.fullmatch(path.name):
            if open_archive(path, is_image).names:
                return path
            if open_archive(
                path, lambda name: _ARCHIVE.fullmatch(base_name(name)) is not None
            ).names:
                packed.append(path.name)  # an archive in an archive
    if packed:
        raise UserError(f"--data-dir {str(root)!r}: {packed[0]} is not read; unpack it there")
    raise UserError(f"--data-dir {str(root)!r} lacks {EXPECTED}")


def _holds_images(folder: Path) -> bool:
    return any(is_image(name) and is_own(name) for _, _, names in os.walk(folder) for name in names)


def _holds_numbered(folder: Path) -> bool:
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    return any(is_image(name) and NUMBER.fullmatch(key_of(name)) for name in names)


def _find_list(name: str, files: Iterable[Path]) -> ListFile | None:
    pattern = re.compile(name + _LIST, re.IGNORECASE)
    found = [path for path in files if pattern.fullmatch(path.name)]
    plain = [path for end in (".txt", ".csv") for path in found if path.name.lower() == name + end]
    return next(map(ListFile, (*plain, *found)), None)


def _beside(folder: Path) -> Iterator[Path]:
    """Files where CelebA's lists are when the images are in ``folder``."""
    for above in folder.parents[:2]:
        for where in (above, *(above / name for name in ("Anno", "Eval", "anno", "eval"))):
            try:
                yield from sorted(path for path in where.iterdir() if path.is_file())
            except OSError:
                continue


def _list_inside(archive: Path, name: str) -> ListFile | None:
    pattern = re.compile(name + _LIST, re.IGNORECASE)
    try:
        with zipfile.ZipFile(archive) as content:
            members = content.namelist()
    except Exception:  # of a dozen kinds; opening it will say so
        return None
    inside = (m for m in members if is_own(m) and pattern.fullmatch(base_name(m)))
    return next((ListFile(archive, member) for member in inside), None)
