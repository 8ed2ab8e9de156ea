"""A dataset as the registry lists it, and a request for its images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fastinfogan.data.images import ImageData, Split
from fastinfogan.data.ingest.source import Source
from fastinfogan.errors import UserError
from fastinfogan.tell import Tell, on_stderr


@dataclass(frozen=True)
class LoadRequest:
    """What one call of ``load_images`` asks for.

    Attributes:
        data_dir: the folder with the dataset's files; None: it needs none, or fetches them.
        split: which part.
        image_size: pixels a side; None: the dataset's own, as for all with a fixed shape.
        channels: 1 or 3; None: likewise.
        progress: show a bar, or lines where there is no terminal, when it takes long.
        allow_bad: leave unusable files out, however many.
        tell: gets each line that the user should see.
        stretch: as in ``Preprocess``.
    """

    data_dir: Path | None
    split: Split
    image_size: int | None
    channels: int | None
    progress: bool
    allow_bad: bool = False
    tell: Tell = on_stderr
    stretch: int | None = None


@dataclass(frozen=True)
class Dataset:
    """An entry of the registry.

    Attributes:
        name: what ``--dataset`` takes.
        summary: one line for the list of datasets.
        default_preset: the preset that fits the dataset when the user names none.
        iterations: training length when the user names none; None: the preset's.
        image_shape: (C, H, W), or None where the user's request decides it.
        sizes: the sides that its square images can have, the usual one first; (): the one above.
        has_test_split: whether "test" may name other images than "train".
        status: given a ``--data-dir`` or None, (ready without a download, one line why).
        load: reads the images into memory; raises UserError. None: the images are ingested.
        source: finds the files to ingest; raises UserError. None: the images are loaded.
        stretches: whether its images may be scans, for ``--stretch``.
        built_in: whether its images come with the installation, and there is no ``--data-dir``.
        downloads: whether it fetches its files, unless ``--data-dir`` has them.
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
    stretches: bool = False
    built_in: bool = False
    downloads: bool = False
    sizes: tuple[int, ...] = ()

    def shape(self, image_size: int | None) -> tuple[int, int, int] | None:
        """(C, H, W) of its images at this side, or at the usual one; None: see ``image_shape``."""
        if image_size in self.sizes:
            return self.image_shape[0], image_size, image_size
        return self.image_shape

    def check_stretch(self, stretch: int | None) -> None:
        """Refuse to stretch what isn't grey files of any kind, or to a number of bits not in 1..16.

        Args:
            stretch: bits that the user asked for; None: no wish.

        Raises:
            UserError: it can't be had.
        """
        if stretch is None:
            return
        if not self.stretches:
            raise UserError(
                f"--stretch {stretch} does not go with --dataset {self.name}, whose images have "
                "8 bits; drop it or choose --dataset folder"
            )
        if not 1 <= stretch <= 16:
            raise UserError(f"--stretch {stretch}: 1 to 16 bits work")

    def check_shape(self, image_size: int | None, channels: int | None) -> None:
        """Refuse a shape that its images can't have.

        Args:
            image_size: pixels a side that the user asked for; None: no wish.
            channels: likewise.

        Raises:
            UserError: a value that isn't the dataset's.
        """
        if self.image_shape is None:
            return
        if image_size is not None and self.sizes and image_size not in self.sizes:
            work = " and ".join(map(str, self.sizes))
            raise UserError(f"--image-size {image_size}: {work} work with --dataset {self.name}")
        fixed_channels, height, width = self.shape(image_size)
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
