"""``folder``: any directory of image files, decoded once to uint8 squares of one size."""

from __future__ import annotations

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastinfogan.data.base import Dataset, ImageData, LoadRequest, require_directory
from fastinfogan.data.progress import ProgressBar
from fastinfogan.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff")
# Only these decoders see the files: others run programs (EPS) or are rarely tested.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
IMAGE_SIZES = (16, 28, 32, 64, 128)  # 28: for the MNIST networks
DEFAULT_IMAGE_SIZE, DEFAULT_CHANNELS = 32, 3
EXPECTED = f"image files ({', '.join(SUFFIXES)})"
# Files that may be unusable, as a share of all, before the user has to look at them.
SKIPPED_ALLOWED = 0.01
NAMED_IN_ERROR = 3
FILES_PER_TASK = 32


def load_folder(request: LoadRequest) -> ImageData:
    """Decode every image file under ``data_dir``: uint8 N x S x S x C, rows sorted by path.

    S is ``image_size`` (16, 28, 32, 64 or 128; default 32), C is ``channels`` (1 or 3; default 3).
    Each image is turned as its EXIF orientation says, laid on white where it is transparent,
    cut to its central square and resized with a Lanczos filter. Colour profiles are ignored; of
    an animation or a multi-page file the first frame counts.

    Files and folders whose name begins with a dot are left alone. Links are followed, but each
    folder is read once, so loops end. The train and the test split are the same images.

    Labels are the first-level subfolders, sorted, when there are two or more and every image
    lies in one; otherwise there are none. A file that cannot be decoded, or that declares more
    pixels than Pillow's ``MAX_IMAGE_PIXELS``, is skipped and listed in ``skipped``.

    Raises UserError for a size or a number of channels not listed above, for a directory without
    image files, and when more than 1 % of them are unusable.
    """
    size, channels = request.image_size, request.channels
    size = DEFAULT_IMAGE_SIZE if size is None else size
    channels = DEFAULT_CHANNELS if channels is None else channels
    if size not in IMAGE_SIZES:
        raise UserError(
            f"--image-size {size} does not go with --dataset folder; choose one of "
            f"{', '.join(map(str, IMAGE_SIZES))}"
        )
    if channels not in (1, 3):
        raise UserError(f"--channels {channels} is not possible; choose 1 (grey) or 3 (colour)")
    if request.data_dir is None:
        raise UserError(f"--dataset folder needs --data-dir: a directory with {EXPECTED}")
    flag = f"--data-dir {str(request.data_dir)!r}"
    names, unreadable = _list_images(request.data_dir)
    if not names:
        raise UserError(f"{flag} holds no {EXPECTED}, at any depth")

    images, failures = _decode_all(request.data_dir, names, size, channels, request.progress)
    if failures:
        first = [f"{names[row]!r} ({reason})" for row, reason in failures[:NAMED_IN_ERROR]]
        shown = ", ".join(first) + (", ..." if len(failures) > NAMED_IN_ERROR else "")
        if len(failures) == len(names):
            raise UserError(f"{flag}: none of its {len(names)} image files is usable: {shown}")
        if len(failures) > SKIPPED_ALLOWED * len(names):
            raise UserError(
                f"{flag}: {len(failures)} of its {len(names)} image files are unusable, more than "
                f"{SKIPPED_ALLOWED:.0%}; repair or remove them: {shown}"
            )
    bad = dict(failures)
    if bad:
        images = np.delete(images, list(bad), axis=0)
    labels, label_names = _labels([name for row, name in enumerate(names) if row not in bad])
    return ImageData(
        name="folder",
        images=images,
        labels=labels,
        label_names=label_names,
        skipped=(*unreadable, *((names[row], reason) for row, reason in failures)),
    )


def folder_status(data_dir: Path | None) -> tuple[bool, str]:
    if data_dir is None:
        return False, f"needs --data-dir: a directory with {EXPECTED}"
    try:
        names, _ = _list_images(data_dir)
    except UserError as error:
        return False, str(error)
    return bool(names), f"{len(names):,} image files in {str(data_dir)!r}"


def _list_images(root: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """Sorted paths, relative to ``root`` with "/", of its image files; and unreadable folders."""
    require_directory(root, EXPECTED)
    names: list[str] = []
    unreadable: list[tuple[str, str]] = []
    seen = {os.path.realpath(root)}

    def note(error: OSError) -> None:
        unreadable.append((str(error.filename), f"folder cannot be read: {error.strerror}"))

    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=note):
        unseen = []
        for name in sorted(subfolders):
            real = os.path.realpath(os.path.join(folder, name))
            if not name.startswith(".") and real not in seen:
                seen.add(real)
                unseen.append(name)
        subfolders[:] = unseen
        relative = Path(folder).relative_to(root)
        names += [
            (relative / name).as_posix()
            for name in files
            if name.lower().endswith(tuple(f".{suffix}" for suffix in SUFFIXES))
            and not name.startswith(".")
        ]
    return sorted(names), unreadable


def _labels(names: list[str]) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    folders = [name.split("/")[0] if "/" in name else None for name in names]
    label_names = sorted({folder for folder in folders if folder is not None})
    if None in folders or len(label_names) < 2:
        return None, None
    index = {name: label for label, name in enumerate(label_names)}
    return np.array([index[folder] for folder in folders], np.int64), tuple(label_names)


def _decode_all(
    root: Path, names: list[str], size: int, channels: int, progress: bool
) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """Decode every file; returns all rows, and (row, reason) of those that hold nothing."""
    from PIL import Image

    images = np.empty((len(names), size, size, channels), np.uint8)

    def decode_rows(rows: range) -> list[tuple[int, str]]:
        failures = []
        for row in rows:
            try:
                images[row] = _decode(root / names[row], size, channels)
            # Pillow meets damaged files with a dozen kinds of exception; any of them means
            # that this one file is of no use.
            except Exception as error:
                failures.append((row, _reason(error)))
        return failures

    tasks = [
        range(start, min(start + FILES_PER_TASK, len(names)))
        for start in range(0, len(names), FILES_PER_TASK)
    ]
    failures: list[tuple[int, str]] = []
    pool = ThreadPoolExecutor()
    with warnings.catch_warnings(), ProgressBar("decoding images", progress) as bar:
        # Pillow only warns of up to twice MAX_IMAGE_PIXELS. Its other warnings (odd metadata)
        # name no file.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        bar.total = len(names)
        try:
            for rows, failed in zip(tasks, pool.map(decode_rows, tasks), strict=True):
                failures += failed
                bar.update(len(rows))
        finally:
            # On Ctrl-C, do not decode the rest first.
            pool.shutdown(cancel_futures=True)
    return images, failures


def _decode(path: Path, size: int, channels: int) -> np.ndarray:
    """One file as uint8 size x size x channels."""
    from PIL import Image, ImageOps

    with Image.open(path, formats=FORMATS) as opened:
        # Lets libjpeg decode a large photograph at 1/2, 1/4 or 1/8, at least twice too large.
        opened.draft(None, (2 * size, 2 * size))
        image = _flatten(ImageOps.exif_transpose(opened))
    image = image.convert("L" if channels == 1 else "RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    # Not resize(box=...): its filter reaches beyond the box.
    image = image.crop((left, top, left + side, top + side))
    image = image.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(size, size, channels)


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


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return f"not an image in {', '.join(FORMATS)} format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


FOLDER = Dataset(
    name="folder",
    summary=f"any directory of images ({', '.join(SUFFIXES)}), cut to squares; --data-dir",
    default_preset="folder",
    iterations=None,
    image_shape=None,
    has_test_split=False,
    load=load_folder,
    status=folder_status,
)
