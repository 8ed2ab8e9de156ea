"""Grids: images side by side in one picture, a caption and labels over them, and the PNG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastinfogan.files import atomic_write

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

GAP, GAP_GREY = 1, 128  # pixels between images, and their value
_MAX_DOUBLED = 1000  # a grid is drawn at twice its size where that stays within so many pixels
_CAPTION_SIZE, _LABEL_SIZE, _SMALLEST_LABEL = 15, 13, 9  # font sizes in pixels


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """Put images into one picture, row by row, with ``GAP`` pixels around each.

    Args:
        images: uint8 (N, H, W, C).
        columns: images in a row; the last row may be shorter.

    Returns:
        uint8 (height, width, C).
    """
    empty = -len(images) % columns
    cells = np.pad(images, ((0, empty), (0, 0), (0, 0), (0, 0)), constant_values=GAP_GREY)
    cells = np.pad(cells, ((0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=GAP_GREY)
    count, height, width, channels = cells.shape
    grid = cells.reshape(-1, columns, height, width, channels).swapaxes(1, 2)
    grid = grid.reshape(count // columns * height, columns * width, channels)
    return np.pad(grid, ((GAP, 0), (GAP, 0), (0, 0)), constant_values=GAP_GREY)


def label_grid(
    grid: np.ndarray,
    caption: str,
    labels: Sequence[str] = (),
    *,
    scale: int | None = None,
    room_for: Sequence[str] = (),
) -> np.ndarray:
    """Write a caption, and a label over each column, above a grid.

    Args:
        grid: uint8 (height, width, C).
        caption: one line.
        labels: one per column of images; a label may have several lines.
        scale: how many pixels wide and high each of the grid's becomes; None: 2 if it is then at
            most 1000 pixels wide, otherwise 1.
        room_for: other captions that would fit as well, so that pictures are of one size.

    Returns:
        uint8 (H, W, C), black text on white.
    """
    from PIL import Image, ImageDraw, ImageFont

    if scale is None:
        scale = 2 if 2 * grid.shape[1] <= _MAX_DOUBLED else 1
    grid = grid.repeat(scale, axis=0).repeat(scale, axis=1)
    height, width, channels = grid.shape
    font = ImageFont.load_default(_CAPTION_SIZE)
    caption_height, line_height = _CAPTION_SIZE + 8, _LABEL_SIZE + 3
    lines = max((label.count("\n") + 1 for label in labels), default=0)
    top = caption_height + lines * line_height + (3 if labels else 0)
    mode, white, ink = ("L", 255, 0) if channels == 1 else ("RGB", (255,) * 3, (0,) * 3)
    widest = max(font.getlength(text) for text in (caption, *room_for))
    canvas_width = max(width, math.ceil(widest) + 8)
    canvas = Image.new(mode, (canvas_width, top + height), white)
    canvas.paste(to_pillow(grid), (0, top))
    draw = ImageDraw.Draw(canvas)
    draw.text((4, caption_height // 2), caption, ink, font, anchor="lm")
    gap = GAP * scale
    cell = (width - gap) / max(len(labels), 1)
    for column, label in enumerate(labels):
        middle = gap + column * cell + (cell - gap) / 2
        for line, text in enumerate(label.split("\n")):
            text, font = _fit_text(text, cell - gap - 2)
            at = (middle, caption_height + (line + 0.5) * line_height)
            draw.text(at, text, ink, font, anchor="mm")
    return np.asarray(canvas).reshape(top + height, canvas_width, channels)


def save_png(path: Path | str, image: np.ndarray) -> None:
    """Write an image as PNG; the file is there whole or not at all.

    Args:
        path: the file.
        image: uint8 (H, W, C), C = 1 or 3.
    """
    atomic_write(Path(path), png_content(image))


def png_content(image: np.ndarray) -> bytes:
    """What is in the PNG of an image, uint8 (H, W, C), C = 1 or 3."""
    buffer = BytesIO()
    to_pillow(image).save(buffer, format="png")
    return buffer.getvalue()


def save_pngs(folder: Path, images: Mapping[str, np.ndarray], suffix: str = "") -> None:
    """Write images as PNG.

    Args:
        folder: where; it is made if need be.
        images: name of a file, without its ending -> as for ``save_png``.
        suffix: goes after each name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        save_png(folder / f"{name}{suffix}.png", image)


def to_pillow(image: np.ndarray) -> Any:
    """A Pillow image of uint8 (H, W, C), C = 1 or 3."""
    from PIL import Image

    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)


def _fit_text(text: str, width: float) -> tuple[str, FreeTypeFont]:
    """``text`` and a font in which it is at most ``width`` pixels wide, cut off if need be."""
    from PIL import ImageFont

    for size in range(_LABEL_SIZE, _SMALLEST_LABEL - 1, -1):
        font = ImageFont.load_default(size)
        if font.getlength(text) <= width:
            return text, font
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…", font
