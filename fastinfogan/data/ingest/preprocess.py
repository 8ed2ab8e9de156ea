"""Which square of an image is kept and how small it is made: the same for every decoder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

# libjpeg may reduce an image while decoding it, down to this many times the wanted size.
REDUCE_TO = 4


@dataclass(frozen=True)
class Preprocess:
    """Cut the central square and resize it.

    The filter is a triangle as wide as a pixel of the result: Pillow's BILINEAR, DALI's LINEAR
    with antialiasing.

    Attributes:
        size: pixels a side of the result.
        channels: 1 (luma of ITU-R BT.601) or 3 (RGB).
        crop: pixels a side of the square; None: as large as fits.
        stretch: bits that grey values of 16 bits really use, 2^stretch - 1 becoming white; None:
            all 16, or as many as the file says.
    """

    size: int
    channels: int
    crop: int | None = None
    stretch: int | None = None

    def side(self, width: int, height: int) -> int:
        """Pixels a side of the square that is cut from an image."""
        fits = min(width, height)
        return fits if self.crop is None else min(fits, self.crop)

    def reducible(self, width: int, height: int) -> bool:
        """Whether libjpeg may reduce a JPEG of that size while decoding it."""
        return self.side(width, height) >= 2 * REDUCE_TO * self.size

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the result."""
        return self.size, self.size, self.channels

    @property
    def description(self) -> dict[str, Any]:
        """As JSON, for a cache's key: without ``stretch`` it is that of before there was one."""
        values = asdict(self)
        if self.stretch is None:
            del values["stretch"]
        return values
