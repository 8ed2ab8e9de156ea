"""``mnist`` and ``fashion-mnist``: 28 x 28 grey images in idx files, given or downloaded.

The idx format (LeCun et al.): two zero bytes, a type code (8: uint8), the number of dimensions,
each dimension as a big-endian uint32, then the values.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from fastinfogan.data.data_dir import require_directory
from fastinfogan.data.dataset import Dataset, LoadRequest
from fastinfogan.data.fetch import cache_directory, fetch
from fastinfogan.data.images import ImageData, Split
from fastinfogan.errors import UserError

SIDE, CLASSES = 28, 10
UINT8 = 0x08
MAX_VALUES = 1 << 30  # the largest look-alike, EMNIST, has 640 million
GZIP_START = b"\x1f\x8b"
READ_BYTES = 1 << 20
# (images, labels) of each split, by their standard names without .gz.
FILES: dict[Split, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


@dataclass(frozen=True)
class IdxSource:
    """Where one dataset comes from.

    Attributes:
        name: of the dataset.
        torchvision: the folder in which torchvision keeps it.
        label_names: of the ten classes.
        megabytes: what a download takes.
        mirrors: base URLs that end in "/", tried in order.
        md5: of each .gz file, in the order of ``FILES``.
    """

    name: str
    torchvision: str
    label_names: tuple[str, ...]
    megabytes: float
    mirrors: tuple[str, ...]
    md5: tuple[str, str, str, str]

    @property
    def checksums(self) -> dict[str, str]:
        """File name -> md5."""
        names = [f"{stem}.gz" for pair in FILES.values() for stem in pair]
        return dict(zip(names, self.md5, strict=True))


MNIST_SOURCE = IdxSource(
    name="mnist",
    torchvision="MNIST",
    label_names=tuple("0123456789"),
    megabytes=11.6,
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    md5=(
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
)
FASHION_SOURCE = IdxSource(
    name="fashion-mnist",
    torchvision="FashionMNIST",
    label_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    megabytes=30.9,
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    md5=(
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
)


def load_idx(source: IdxSource, request: LoadRequest) -> ImageData:
    """Read one split: images uint8 N x 28 x 28 x 1, labels 0 to 9.

    Without ``--data-dir``, all four files are fetched into the cache and checksummed at first
    use, so that later runs work offline. The files in ``--data-dir`` may be of any dataset of
    that format (KMNIST, say): they are validated, not checksummed.
    """
    folder = request.data_dir
    if folder is None:
        folder = fetch(source.name, source.mirrors, source.checksums, request.progress)
    images_path, labels_path = _find_pair(source, folder, request.split)
    images, labels = read_idx(images_path, ndim=3), read_idx(labels_path, ndim=1)
    if images.shape[1:] != (SIDE, SIDE):
        raise _bad(
            images_path,
            f"holds images of {images.shape[1]}x{images.shape[2]} pixels; "
            f"--dataset {source.name} needs {SIDE}x{SIDE}",
        )
    if len(images) == 0:
        raise _bad(images_path, "holds no image")
    if len(labels) != len(images):
        raise _bad(
            labels_path,
            f"holds {len(labels)} labels for the {len(images)} images of {images_path.name}; "
            "take both files from the same dataset and split",
        )
    if labels.max() >= CLASSES:
        raise _bad(
            labels_path,
            f"holds the label {labels.max()}; --dataset {source.name} has the {CLASSES} classes "
            f"0 to {CLASSES - 1}",
        )
    return ImageData(
        name=source.name,
        images=images[..., None],
        labels=labels.astype(np.int64),
        label_names=source.label_names,
    )


def idx_status(source: IdxSource, data_dir: Path | None) -> tuple[bool, str]:
    """See ``Dataset.status``."""
    if data_dir is not None:
        try:
            for split in FILES:
                _find_pair(source, data_dir, split)
        except UserError as error:
            return False, str(error)
        return True, f"the four files are in {str(data_dir)!r}"
    folder = cache_directory(source.name)
    if all((folder / name).is_file() for name in source.checksums):
        return True, f"downloaded to {str(folder)!r}"
    return False, (
        f"downloads {source.megabytes} MB when first used; offline, pass --data-dir with the files"
    )


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """Read an idx file of uint8 values, gzipped or not, into a writable array of ``ndim`` axes.

    No more memory is taken, and no more unpacked, than the header announces.

    Raises:
        UserError: the file is not exactly what its header announces.
    """
    try:
        with open(path, "rb") as file:
            # By content, not by name: some browsers unpack a .gz and keep its name.
            zipped = file.read(2) == GZIP_START
            file.seek(0)
            if not zipped:
                return _read_values(path, file, ndim)
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _read_values(path, unpacked, ndim)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or f"it is cut short or damaged: {error}"
        raise _bad(path, f"cannot be read ({reason})") from None


def _read_values(path: Path, file: IO[bytes], ndim: int) -> np.ndarray:
    size = 4 + 4 * ndim
    header = file.read(size)
    magic, expected = header[:4], bytes([0, 0, UINT8, ndim])
    if len(magic) == 4 and magic != expected:
        raise _bad(
            path,
            f"starts with 0x{magic.hex()}, but an idx file of uint8 in {ndim} dimension"
            f"{'s' if ndim > 1 else ''} starts with 0x{expected.hex()}",
        )
    if len(header) < size:
        raise _bad(path, f"is cut short: {len(header)} bytes, less than its header of {size}")
    shape = tuple(int(number) for number in np.frombuffer(header, ">u4", ndim, offset=4))
    announced = math.prod(shape)
    promise = f"its header announces {' x '.join(map(str, shape))} = {announced}"
    if announced > MAX_VALUES:
        raise _bad(path, f"is too large: {promise} values, and at most {MAX_VALUES} are read")
    values = np.empty(announced, np.uint8)
    found, room = 0, memoryview(values)
    while found < announced and (read := file.readinto(room[found : found + READ_BYTES])):
        found += read
    # Reading on to the end also compares gzip's checksum.
    beyond = len(file.read(READ_BYTES)) if found == announced else 0
    if found + beyond != announced:
        problem = "is too long" if beyond else "is cut short"
        least = "at least " if beyond == READ_BYTES else ""
        raise _bad(path, f"{problem}: {least}{found + beyond} bytes of values, but {promise}")
    return values.reshape(shape)


def _find_pair(source: IdxSource, folder: Path, split: Split) -> tuple[Path, Path]:
    """The image and the label file of ``split``, in ``folder`` or where others keep them in it."""
    stems = FILES[split]
    wanted = " and ".join(f"{stem}[.gz]" for stem in stems)
    require_directory(folder, wanted)
    known = source.torchvision
    homes = (folder, folder / "raw", folder / known / "raw", folder / known, folder / "archive")
    pairs = [tuple(_find(home, stem) for stem in stems) for home in homes]
    for pair in pairs:
        if None not in pair:
            return pair
    closest = max(pairs, key=lambda pair: len(pair) - pair.count(None))
    lacking = [f"{stem}[.gz]" for stem, path in zip(stems, closest, strict=True) if path is None]
    tables = any(name.lower().endswith(".csv") for name in os.listdir(folder))
    raise UserError(
        f"--data-dir {str(folder)!r} lacks {' and '.join(lacking)}; the {split} split needs "
        f"{wanted} directly in it or in its {known}/raw/"
        + (" (the tables in it, .csv, are not read)" if tables else "")
    )


def _find(folder: Path, stem: str) -> Path | None:
    """A file under one of its names, or in a folder of that name, as Kaggle's archives have it."""
    dotted = stem.replace("-idx", ".idx")
    names = [f"{name}{end}" for name in (stem, dotted) for end in (".gz", "")]
    paths = [folder / name for name in names]
    paths += [folder / outer / inner for outer in names for inner in names]
    return next((path for path in paths if os.path.isfile(path)), None)


def _bad(path: Path, problem: str) -> UserError:
    return UserError(f"--data-dir {str(path.parent)!r}: {path.name} {problem}")


def _dataset(source: IdxSource, what: str) -> Dataset:
    return Dataset(
        name=source.name,
        summary=f"{what}, 28x28 grey; {source.megabytes} MB download or --data-dir",
        default_preset="mnist",
        iterations=None,
        image_shape=(1, SIDE, SIDE),
        has_test_split=True,
        load=partial(load_idx, source),
        status=partial(idx_status, source),
        downloads=True,
    )


MNIST = _dataset(MNIST_SOURCE, "70,000 handwritten digits")
FASHION_MNIST = _dataset(FASHION_SOURCE, "70,000 articles of clothing")
