"""Files in the idx format, as MNIST and its look-alikes are given out."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST_NAMES = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def digits_like(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random 28 x 28 images and the labels 0, 1, ..., 9, 0, ..."""
    images = np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    return images, (np.arange(count) % 10).astype(np.uint8)


def idx_bytes(array: np.ndarray, magic: bytes | None = None) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) if magic is None else magic
    return header + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_four(folder: Path, count: int = 12, suffix: str = ".gz") -> dict[str, np.ndarray]:
    """The four files of an MNIST look-alike; the test split has half the images."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for (images_name, labels_name), number in ((NAMES, count), (TEST_NAMES, count // 2)):
        images, labels = digits_like(number, seed=number)
        for name, array in ((images_name, images), (labels_name, labels)):
            data = idx_bytes(array)
            (folder / f"{name}{suffix}").write_bytes(
                gzip.compress(data, mtime=0) if suffix == ".gz" else data
            )
            written[name] = array
    return written
