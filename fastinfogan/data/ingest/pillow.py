"""Decode, crop and resize with Pillow: what DALI is held to, and what runs where DALI doesn't."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from fastinfogan.data.ingest import notes, png
from fastinfogan.data.ingest.formats import FORMATS, check_heif, decoders
from fastinfogan.data.ingest.preprocess import REDUCE_TO, Preprocess
from fastinfogan.errors import why

if TYPE_CHECKING:
    from PIL.Image import Image

_TIFF_BITS, _EXIF_ORIENTATION = 0x0102, 0x0112


def decode(
    data: bytes,
    preprocess: Preprocess,
    note: Callable[[str], None] = lambda note: None,
    name: str = "",
) -> np.ndarray:
    """Decode one encoded image.

    It is turned as its EXIF orientation says and laid on white where it is transparent. Colour
    profiles are ignored; of an animation or a multi-page file the first frame counts. What is
    wrong beside the pixels is passed over, as viewers do.

    Args:
        data: the file's content.
        preprocess: what is made of it.
        note: gets what ``notes`` has a word for.
        name: the file's, for the few formats that only their suffix gives away.

    Returns:
        uint8 (H, W, C).

    Raises:
        Exception: whatever Pillow raises for a bad file; ``reason`` puts it in words.
    """
    png.check_pixels(data)  # which Pillow overlooks
    check_heif(data)
    noted: list[str] = []
    try:
        row = _decode(data, preprocess, noted, name)
    except Exception:  # of a dozen kinds
        bare = png.bare(data)
        if bare is None:
            raise
        noted.clear()
        row = _decode(bare, preprocess, noted, name)
    for text in noted:
        note(text)
    return row


def _decode(data: bytes, preprocess: Preprocess, noted: list[str], name: str) -> np.ndarray:
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=decoders(name)) as opened:
        width, height = opened.size
        if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
            # Up to twice that, Pillow only warns, in its words.
            raise Image.DecompressionBombError(
                f"Image size ({width * height} pixels) exceeds limit of {Image.MAX_IMAGE_PIXELS} "
                "pixels, could be decompression bomb DOS attack."
            )
        side = preprocess.side(width, height)
        if side < preprocess.size:
            noted.append(notes.SMALL)
        least = REDUCE_TO * preprocess.size / side
        opened.draft(None, (round(width * least), round(height * least)))
        side = max(1, round(side * opened.width / width))
        depth = _depth(opened, data)
        opened.load()
        image = _flatten(_upright(opened), depth, preprocess.stretch, noted)
    image = image.convert("L" if preprocess.channels == 1 else "RGB")
    left, top = (image.width - side) // 2, (image.height - side) // 2
    # Not resize(box=...): its filter reaches beyond the box.
    image = image.crop((left, top, left + side, top + side))
    image = image.resize((preprocess.size, preprocess.size), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(preprocess.shape)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Pillow's warnings are silent: of odd metadata, without a file's name.

    (They are the whole process's, so another thread may undo it; no pixel depends on it.)
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def reason(error: Exception) -> str:
    """Why a file is of no use, in one line."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return f"not an image in {', '.join(list(FORMATS)[:6])} or another format that is read"
    return why(error)


def _depth(image: Image, data: bytes) -> int:
    """Bits of a channel, as the file says."""
    if image.format == "PNG":
        return data[24]  # the header comes first
    if image.format == "TIFF":
        return max(image.tag_v2.get(_TIFF_BITS, (8,)))
    return 8


def _upright(image: Image) -> Image:
    """The image as its EXIF orientation says; as it is where that can't be read."""
    from PIL import Image

    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # of a dozen kinds
        return image
    turn = Image.Transpose
    turns = {
        2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE,
        6: turn.ROTATE_270, 7: turn.TRANSVERSE, 8: turn.ROTATE_90,
    }  # fmt: skip
    return image.transpose(turns[orientation]) if orientation in turns else image


def _flatten(image: Image, depth: int, stretch: int | None, noted: list[str]) -> Image:
    """An opaque image of 8 bits a channel.

    Args:
        image: as Pillow read it.
        depth: bits of a channel in the file.
        stretch: as in ``Preprocess``.
        noted: what there is to say is added here.
    """
    from PIL import Image

    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.mode.startswith("I"):  # 16-bit grey; Pillow may hold it in 32 bits
        return Image.fromarray(_eight_bits(np.asarray(image), depth, stretch, noted))
    if depth == 16 and image.mode in ("LA", "RGB", "RGBA"):
        if stretch is not None:
            raise ValueError(
                f"--stretch {stretch} is for grey; of colour only the upper 8 of 16 bits are read"
            )
        levels = image.getextrema()
        color = levels if image.mode == "RGB" else levels[:-1]
        if most := max(high for _, high in color):
            noted.append(notes.colour(8 + most.bit_length()))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image


def _eight_bits(
    values: np.ndarray, depth: int, stretch: int | None, noted: list[str]
) -> np.ndarray:
    """Grey values of up to 16 bits as uint8."""
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("32-bit grey values lie outside 0 to 65535")
    most = int(values.max())
    if stretch is None and depth == 12:  # a TIFF that says so
        stretch = 12
    if stretch is None:
        if most:
            noted.append(notes.grey(most.bit_length()))
        return np.rint(values / 257).astype(np.uint8)
    white = 2**stretch - 1
    if most > white:
        raise ValueError(f"grey values of up to {most:,}; --stretch {stretch} is for {white:,}")
    return np.rint(values * (255 / white)).astype(np.uint8)
