"""Decode, crop and resize with Pillow: what DALI is held to, and what runs where DALI doesn't."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from fastinfogan.data.ingest.formats import FORMATS, decoders
from fastinfogan.data.ingest.preprocess import REDUCE_TO, Preprocess
from fastinfogan.errors import one_line

if TYPE_CHECKING:
    from PIL.Image import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def decode(data: bytes, preprocess: Preprocess, name: str = "") -> np.ndarray:
    """Decode one encoded image.

    It is turned as its EXIF orientation says and laid on white where it is transparent. Colour
    profiles are ignored; of an animation or a multi-page file the first frame counts.

    Args:
        data: the file's content.
        preprocess: what is made of it.
        name: the file's, for the few formats that only their suffix gives away.

    Returns:
        uint8 (H, W, C).

    Raises:
        Exception: whatever Pillow raises for a bad file; ``reason`` puts it in words.
    """
    from PIL import Image, ImageOps

    for _ in png_chunks(data):  # Pillow overlooks the checksums of pixels
        pass
    with Image.open(io.BytesIO(data), formats=decoders(name)) as opened:
        width, height = opened.size
        side = preprocess.side(width, height)
        least = REDUCE_TO * preprocess.size / side
        opened.draft(None, (round(width * least), round(height * least)))
        side = max(1, round(side * opened.width / width))
        image = _flatten(ImageOps.exif_transpose(opened))
    image = image.convert("L" if preprocess.channels == 1 else "RGB")
    left, top = (image.width - side) // 2, (image.height - side) // 2
    # Not resize(box=...): its filter reaches beyond the box.
    image = image.crop((left, top, left + side, top + side))
    image = image.resize((preprocess.size, preprocess.size), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(preprocess.shape)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """(kind, content) of the whole chunks of a PNG file; none of any other file.

    Raises:
        ValueError: at a chunk whose checksum is wrong.
    """
    at, view = 8, memoryview(data)
    while data.startswith(PNG_SIGNATURE) and at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            return
        if zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise ValueError(f"wrong checksum in PNG chunk {kind.decode('latin-1')!r}")
        yield kind, view[at + 8 : end]
        if kind == b"IEND":
            return
        at = end + 4


@contextlib.contextmanager
def strict_sizes() -> Iterator[None]:
    """Images of more than Pillow's MAX_IMAGE_PIXELS are errors; its other warnings are silent."""
    from PIL import Image

    with warnings.catch_warnings():
        # Pillow only warns of up to twice that size. Its other warnings (odd metadata) name no
        # file.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def reason(error: Exception) -> str:
    """Why a file is of no use, in one line."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return f"not an image in {', '.join(list(FORMATS)[:6])} or another format that is read"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return one_line(error)


def _flatten(image: Image) -> Image:
    """An opaque image of 8 bits a channel."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.mode.startswith("I"):  # 16-bit grey; Pillow may hold it in 32 bits
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("32-bit grey values lie outside 0 to 65535")
        return Image.fromarray(np.rint(values / 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image
