"""What every dataset is made of: its images in memory, its registry entry, one loading request."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from fastinfogan.errors import UserError

if TYPE_CHECKING:
    from fastinfogan.data.ingest.ingest import Source

Split = Literal["train", "test"]


@dataclass(frozen=True, eq=False)
class ImageData:
    """One split of a dataset, decoded and held in memory.

    images: uint8, N x H x W x C, C-contiguous, N >= 1.
    labels: int64 (N,), each an index into ``label_names``; ``None`` where the data has none.
    skipped: (path, reason) of the files that were not usable.
    factors: int64 (N, F), the known factors of variation of each image, named by
        ``factor_names``; ``None`` where none are known.
    checksum: of the images' bytes, from the cache that holds them; ``None``: they are in memory.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None
    label_names: tuple[str, ...] | None
    skipped: tuple[tuple[str, str], ...] = ()
    factors: np.ndarray | None = None
    factor_names: tuple[str, ...] | None = None
    checksum: str | None = None

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 4 or not images.flags.c_contiguous:
            raise ValueError(
                f"images must be C-contiguous uint8 N x H x W x C, got {images.dtype} "
                f"{images.shape}"
            )
        if labels is not None and (labels.dtype != np.int64 or labels.shape != images.shape[:1]):
            raise ValueError(
                f"labels must be int64 ({len(images)},), got {labels.dtype} {labels.shape}"
            )
        factors, names = self.factors, self.factor_names
        if (factors is None) != (names is None) or (
            factors is not None
            and (factors.dtype != np.int64 or factors.shape != (len(images), len(names)))
        ):
            raise ValueError(f"factors must be int64 ({len(images)}, F) with F names, or both None")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W), the order the networks use."""
        _, height, width, channels = self.images.shape
        return channels, height, width

    @cached_property
    def background(self) -> np.ndarray:
        """uint8 (C,): the median of the pixels along the border, of 1,000 images at most."""
        some = self.images[:: max(1, len(self.images) // 1000)]
        edges = (some[:, :1], some[:, -1:], some[:, 1:-1, :1], some[:, 1:-1, -1:])
        pixels = np.concatenate([edge.reshape(-1, some.shape[-1]) for edge in edges])
        return np.median(pixels, axis=0).astype(np.uint8)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, 64 hex digits, of the images' shape and bytes and of the labels.

        Equal fingerprints mean the same images with the same labels in the same order, so a
        resumed run can check that it sees the data it began with. Where a cache has a checksum
        of the bytes, that stands for them.
        """
        digest = hashlib.sha256(f"{self.images.shape} {self.labels is not None}\n".encode())
        digest.update(self.images.data if self.checksum is None else self.checksum.encode())
        if self.labels is not None:
            digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Annotations:
    """What is known of each image: ``labels`` and ``factors`` as ``ImageData`` has them."""

    labels: np.ndarray | None = None
    label_names: tuple[str, ...] | None = None
    factors: np.ndarray | None = None
    factor_names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class LoadRequest:
    """What one call of ``load_images`` asks of a loader.

    ``image_size`` (pixels) and ``channels`` matter only to datasets without a fixed shape.
    ``allow_bad``: leave unusable files out, however many.
    """

    data_dir: Path | None
    split: Split
    image_size: int | None
    channels: int | None
    progress: bool
    allow_bad: bool = False


@dataclass(frozen=True)
class Dataset:
    """An entry of the registry.

    default_preset: the preset that fits the dataset when the user names none.
    iterations: training length when the user names none; ``None``: the preset's.
    image_shape: (C, H, W), or ``None`` where the user's request decides it.
    has_test_split: whether "test" names other images than "train".
    load: reads the images into memory; raises UserError. None: the images are ingested.
    source: finds the files to ingest; raises UserError. None: the images are loaded.
    status: given a ``--data-dir`` or ``None``, (ready without a download, one line why).
    """

    name: str
    summary: str
    default_preset: str
    iterations: int | None
    image_shape: tuple[int, int, int] | None
    has_test_split: bool
    status: Callable[[Path | None], tuple[bool, str]]
    load: Callable[[LoadRequest], ImageData] | None = None
    source: Callable[[LoadRequest], Source] | None = None

    def check_shape(self, image_size: int | None, channels: int | None) -> None:
        """Raise UserError if another shape is asked for than the fixed one."""
        if self.image_shape is None:
            return
        fixed_channels, height, width = self.image_shape
        for flag, value, fixed in (
            ("--image-size", image_size, height),
            ("--channels", channels, fixed_channels),
        ):
            if value is not None and value != fixed:
                raise UserError(
                    f"{flag} {value} does not go with --dataset {self.name}, whose images are "
                    f"{height}x{width} with {fixed_channels} channel"
                    f"{'s' if fixed_channels > 1 else ''}; drop {flag} or choose --dataset folder"
                )


def directory_status(
    data_dir: Path | None, expected: str, look: Callable[[Path], str]
) -> tuple[bool, str]:
    """The registry's status of a dataset that needs ``--data-dir``.

    expected: as for ``require_directory``.
    look: says in one line what is there; raises UserError if it won't do.
    """
    if data_dir is None:
        return False, f"needs --data-dir: a directory with {expected}"
    try:
        return True, look(data_dir)
    except UserError as error:
        return False, str(error)


def spoilt(path: Path, problem: str) -> UserError:
    """The error for a distributor's file in ``--data-dir`` that is not what was published."""
    return UserError(f"--data-dir {str(path.parent)!r}: {path.name} {problem}; fetch it again")


def require_directory(data_dir: Path, expected: str) -> None:
    """Raise UserError unless ``data_dir`` is a directory with something in it.

    expected: what it should hold, in words that complete "a directory with ...".
    """
    flag = f"--data-dir {str(data_dir)!r}"
    try:
        with os.scandir(data_dir) as entries:
            empty = next(entries, None) is None
    except FileNotFoundError:
        raise UserError(f"{flag} does not exist; name a directory with {expected}") from None
    except NotADirectoryError:
        raise UserError(f"{flag} is not a directory; name a directory with {expected}") from None
    except OSError as error:
        raise UserError(
            f"{flag} cannot be read ({error.strerror}); name a readable directory with {expected}"
        ) from None
    if empty:
        raise UserError(f"{flag} is empty; name a directory with {expected}")
