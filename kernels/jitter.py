"""What counts as the same image: the ranges of a small random change."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Jitter:
    """Ranges of the random changes; each is drawn evenly from -range to range, flip with a coin.

    A change maps a pixel of the result to the place of the image that it shows:
    rotation, then shear, then scale about the centre, then a shift. Exposure, contrast and
    brightness follow.

    Attributes:
        rotation: radians.
        scale: factor 1 - scale to 1 + scale.
        shear: x moves by this much of y.
        shift: along each axis, in half widths (or heights) of the image.
        brightness: added, in half ranges of the pixel values.
        contrast: factor 1 - contrast to 1 + contrast, about the middle of the range.
        exposure: factor 1 - exposure to 1 + exposure, about its lower end: black stays black.
        flip: 1 mirrors every other image left to right, 0 none.
    """

    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    exposure: float = 0.0
    flip: float = 0.0

    def times(self, share: float) -> Jitter:
        """Every range but the flip times ``share``."""
        changed = {f.name: share * getattr(self, f.name) for f in fields(self)}
        return Jitter(**{**changed, "flip": self.flip})

    def __str__(self) -> str:
        return ",".join(
            f"{f.name}={value:g}" for f in fields(self) if (value := getattr(self, f.name))
        )


# More would turn an image on its side, out of its frame or into its negative.
MOST = Jitter(
    rotation=0.8, scale=0.5, shear=0.5, shift=0.5,
    brightness=0.5, contrast=0.5, exposure=0.5, flip=1.0,
)  # fmt: skip
