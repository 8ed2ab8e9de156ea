"""``webdataset``: images in tar shards, as the webdataset library writes and reads them."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fastinfogan.data.data_dir import directory_status, needed_data_dir, require_directory, spoilt
from fastinfogan.data.dataset import Dataset, LoadRequest
from fastinfogan.data.images import Annotations
from fastinfogan.data.ingest.encoded import MAX_FILE_BYTES, entry_of, identity
from fastinfogan.data.ingest.formats import readable, suffix_of
from fastinfogan.data.ingest.listing import is_own
from fastinfogan.data.ingest.source import Items, Source, encoded_items
from fastinfogan.data.ingest.tar import TarFiles, is_compressed
from fastinfogan.data.sources.folder import preprocess_of
from fastinfogan.errors import UserError, why
from fastinfogan.printable import printable
from fastinfogan.sizes import check_bytes, counted

EXPECTED = "tar shards (.tar, not compressed) of image files"
LABEL = "cls"  # suffix of the file beside an image that holds its class, a number
_COMPRESSED = "is compressed, and its images can't be read in any order"
_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


def webdataset_source(request: LoadRequest) -> Source:
    """Every image in the shards below ``data_dir``: uint8 N x S x S x C, shards sorted by path.

    S and C are those of ``folder.preprocess_of``. Labels are the classes in the ``.cls`` files
    beside the images, where every good image has one.

    Raises:
        UserError: a size or a number of channels that can't be had, or a directory without shards.
    """
    preprocess = preprocess_of("webdataset", request)
    root = needed_data_dir("webdataset", request.data_dir, EXPECTED)
    shards = list_shards(root)

    def open_shards() -> Items:
        files = ShardFiles(root, shards)
        return encoded_items(
            files, preprocess, annotate=lambda kept: files.annotate([int(item) for item in kept])
        )

    return Source(
        dataset="webdataset",
        split="all",
        shape=preprocess.shape,
        identity=identity((shard, *entry_of(root / shard)[1:]) for shard in shards),
        preprocessing=preprocess.description,
        what="images",
        where=f"--data-dir {str(root)!r}",
        open=open_shards,
        notes=(counted(len(shards), "shard"),),
    )


def list_shards(root: Path) -> list[str]:
    """The shards below a folder, at any depth, by their paths.

    Raises:
        UserError: there are none, or compressed ones, in which nothing can be found quickly.
    """
    require_directory(root, EXPECTED)
    paths, seen = [], {os.path.realpath(root)}
    for folder, subfolders, names in os.walk(root, followlinks=True):
        paths += [os.path.relpath(os.path.join(folder, name), root) for name in names]
        # Each folder once, so that loops of links end.
        for name in sorted(subfolders):
            real = os.path.realpath(os.path.join(folder, name))
            if real in seen:
                subfolders.remove(name)
            seen.add(real)
    found = sorted(path.replace(os.sep, "/") for path in paths if is_own(path))
    shards = [path for path in found if path.endswith(".tar")]
    for path in found:
        if path.endswith(_SUFFIXES):
            raise spoilt(root / path, _COMPRESSED)
    if not shards:
        raise UserError(f"--data-dir {str(root)!r} holds no {EXPECTED}, at any depth")
    return shards


class ShardFiles:
    """Images in several tar archives, in the order of the archives and then by name.

    An archive is opened for each reading: there may be more than a process may hold open.

    Args:
        root: the folder that they are in.
        shards: the archives, relative to it.

    Attributes:
        names: SHARD/MEMBER of each image.

    Raises:
        UserError: an archive can't be read, or has no image.
    """

    def __init__(self, root: Path, shards: Sequence[str]) -> None:
        self.names: list[str] = []
        self._paths = [os.fspath(root / shard) for shard in shards]
        self._places = array("q")  # archive, offset and size of each
        self._classes: dict[str, int] = {}  # key of an image -> class
        for number, shard in enumerate(shards):
            before = len(self.names)
            self._list(number, shard)
            if len(self.names) == before:
                raise spoilt(root / shard, "holds no image")

    def read(self, index: int) -> bytes:
        """See ``EncodedFiles``."""
        shard, offset, size = self._places[3 * index : 3 * index + 3]
        check_bytes(size, MAX_FILE_BYTES)
        with open(self._paths[shard], "rb") as file:
            file.seek(offset)
            data = file.read(size)
        if len(data) < size:
            raise ValueError("the archive ends within this member")
        return data

    def annotate(self, kept: Sequence[int]) -> Annotations:
        """Labels, where all of some images have one."""
        found = [self._classes.get(_key(self.names[item])) for item in kept]
        if not self._classes:
            return Annotations(no_labels=f"the shards hold no .{LABEL} files")
        if lacking := [item for item, label in zip(kept, found, strict=True) if label is None]:
            reason = f"{len(lacking):,} images have no .{LABEL} file, such as"
            return Annotations(no_labels=f"{reason} {self.names[lacking[0]]!r}")
        classes = sorted(set(found))
        labels = np.searchsorted(classes, found).astype(np.int64)
        return Annotations(labels, tuple(map(str, classes)))

    def _list(self, number: int, shard: str) -> None:
        path = Path(self._paths[number])
        try:
            if is_compressed(path):
                raise spoilt(path, _COMPRESSED)
            members = TarFiles(path, _is_wanted, MAX_FILE_BYTES)
            for index, name in enumerate(members.names):
                if suffix_of(name) == LABEL:
                    self._classes[_key(f"{shard}/{name}")] = int(members.read(index))
                else:
                    self.names.append(f"{shard}/{name}")
                    self._places.extend((number, *members.extents[index]))
        except UserError:
            raise
        # tarfile meets damage with half a dozen kinds; any means the same.
        except Exception as error:
            raise spoilt(path, f"cannot be read ({printable(why(error), 120)})") from None


def _is_wanted(name: str) -> bool:
    suffix = suffix_of(name)
    return is_own(name) and (suffix == LABEL or readable(suffix))


def _key(name: str) -> str:
    """What an image and its class have in common: all up to the first dot of the member's name."""
    folder, _, member = name.rpartition("/")
    return f"{folder}/{member.partition('.')[0]}"


def _status(data_dir: Path | None) -> tuple[bool, str]:
    return directory_status(
        data_dir,
        EXPECTED,
        lambda root: f"{counted(len(list_shards(root)), 'shard')} in {str(root)!r}",
    )


WEBDATASET = Dataset(
    name="webdataset",
    summary=f"{EXPECTED}, cut to squares; --data-dir",
    default_preset="folder",
    iterations=None,
    image_shape=None,
    has_test_split=False,
    source=webdataset_source,
    stretches=True,
    status=_status,
)
