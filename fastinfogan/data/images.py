"""A dataset's images in memory, and what is known of each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from fastinfogan.data.factors import Factor
from fastinfogan.data.ingest.encoded import Encoded

Split = Literal["train", "test"]
FeedName = Literal["auto", "resident", "streamed", "encoded"]  # what --feed takes


@dataclass(frozen=True, eq=False)
class ImageData:
    """One split of a dataset, decoded and held in memory.

    Attributes:
        name: of the dataset.
        images: uint8, N x H x W x C, C-contiguous, N >= 1.
        labels: int64 (N,), each an index into ``label_names``; None where the data has none.
        label_names: what each label stands for.
        skipped: (path, reason) of the files that were not usable.
        factors: int64 (N, F), the known factors of variation of each image; None where none are
            known.
        factor_rows: (F,), what each column is; None where ``factors`` is.
        checksum: of the images' bytes, from the cache that holds them; None: they are in memory.
        both_splits: whether "train" and "test" are both known to be these images.
        notes: what the user should know of them, in lines.
        encoded: all images of the split, to be decoded while training; ``images`` and what is known
            of them are then a sample's. None: ``images`` are all.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None
    label_names: tuple[str, ...] | None
    skipped: tuple[tuple[str, str], ...] = ()
    factors: np.ndarray | None = None
    factor_rows: tuple[Factor, ...] | None = None
    checksum: str | None = None
    both_splits: bool = False
    notes: tuple[str, ...] = ()
    encoded: Encoded | None = None

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
        factors, rows = self.factors, self.factor_rows
        if (factors is None) != (rows is None) or (
            factors is not None
            and (factors.dtype != np.int64 or factors.shape != (len(images), len(rows)))
        ):
            raise ValueError(f"factors must be int64 ({len(images)}, F) with F rows, or both None")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def total(self) -> int:
        """Images to train on; of these ``len`` are decoded."""
        return len(self.images) if self.encoded is None else len(self.encoded.files.names)

    @property
    def origin(self) -> dict[str, str]:
        """``decoder`` and ``files`` (their identity) of images decoded while training; or empty."""
        if self.encoded is None:
            return {}
        return {"decoder": self.encoded.decoder, "files": self.encoded.identity}

    @property
    def factor_names(self) -> tuple[str, ...] | None:
        """(F,), of the factors; None where none are known."""
        return None if self.factor_rows is None else tuple(row.name for row in self.factor_rows)

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

    @property
    def told_apart_by(self) -> str:
        """What differs where fingerprints do, in words."""
        if self.encoded is not None:  # nobody has decoded them all
            return "files' names, sizes or times, or labels"
        return "number, pixels, order or labels"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, 64 hex digits, of the images' shape and bytes and of the labels.

        Equal fingerprints mean the same images with the same labels in the same order, so a
        resumed run can check that it sees the data it began with. Where a cache has a checksum
        of the bytes, that stands for them. Of images that are encoded still, their files' names,
        sizes and times do, and the sample's bytes.
        """
        digest = hashlib.sha256(f"{self.images.shape} {self.labels is not None}\n".encode())
        digest.update(self.images.data if self.checksum is None else self.checksum.encode())
        if self.labels is not None:
            digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Annotations:
    """What is known of each image.

    Attributes:
        labels, label_names, factors: as in ``ImageData``.
        factor_names: (F,), of the columns of ``factors``; ``Source.factors`` says what they are.
        no_labels: why there are none, where there might be.
    """

    labels: np.ndarray | None = None
    label_names: tuple[str, ...] | None = None
    factors: np.ndarray | None = None
    factor_names: tuple[str, ...] | None = None
    no_labels: str | None = None
