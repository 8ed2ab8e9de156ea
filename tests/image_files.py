"""Image files made for a test."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def save(path: Path, pixels, mode: str | None = None, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels))
    (image if mode is None else image.convert(mode)).save(path, **options)


def flat(value, size: int = 16) -> np.ndarray:
    """A uint8 image of one grey level or one colour."""
    return np.broadcast_to(np.uint8(value), (size, size, *np.shape(value)))


def photo(seed: int, width: int = 178, height: int = 218) -> Image.Image:
    """Waves and some noise: in frequencies and size something like a photograph of CelebA."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [
        128 + 50 * np.sin(x / a + b) + 50 * np.cos(y / c + b) + random.normal(0, 6, x.shape)
        for a, b, c in random.uniform(3, 30, (3, 3))
    ]
    return Image.fromarray(np.stack(waves, -1).clip(0, 255).astype(np.uint8))


def encode(image: Image.Image, form: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def write(folder: Path, count: int, form: str = "JPEG", start: int = 0) -> list[bytes]:
    """``count`` files of 24 x 20; each has one level of grey, 5 times its number."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = []
    for number in range(start, start + count):
        image = Image.new("RGB", (24, 20), (number * 5 % 256,) * 3)
        contents.append(encode(image, form))
        (folder / f"{number:05}.{'jpg' if form == 'JPEG' else 'png'}").write_bytes(contents[-1])
    return contents
