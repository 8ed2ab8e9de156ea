"""An animation's file: GIF, WebP or APNG, that starts again at its end."""

from __future__ import annotations

import itertools
from io import BytesIO
from pathlib import Path
from typing import Any

from fastinfogan.data.progress import ProgressReport
from fastinfogan.errors import UserError
from fastinfogan.files import atomic_write
from fastinfogan.paths import expanded, with_ending
from fastinfogan.results.animation import Scene
from fastinfogan.results.grid import to_pillow
from fastinfogan.tell import Tell, on_stderr

ENDINGS = (".gif", ".webp", ".apng")
_FOR_PALETTE = 8  # frames that a GIF's colours are chosen from


def save_animation(path: Path | str, scene: Scene, tell: Tell = on_stderr) -> None:
    """Draw an animation and write it; the file is there whole or not at all.

    WebP and APNG hold every pixel as it is, and so does a GIF of grey images; a GIF of colours has
    the 256 that suit all its frames best.

    Args:
        path: NAME.gif, NAME.webp or NAME.apng.
        scene: what it shows.
        tell: gets a line now and then where it takes long and there is no terminal for a bar.

    Raises:
        UserError: the name ends otherwise, Pillow can't write WebP, or the animation is too large.
    """
    path = with_ending(expanded(path), *ENDINGS)
    _check_webp(path)
    kind = {".gif": "GIF", ".webp": "WEBP", ".apng": "PNG"}[path.suffix]
    count = len(scene.values)
    options: dict[str, Any] = {"duration": _durations(scene.seconds, count, kind)}
    pictures = []
    with ProgressReport(f"drawing {path.name}", count, True, tell) as progress:
        for frame in scene.frames():
            pictures.append(to_pillow(frame))
            progress.update(1)
    if kind == "GIF":
        pictures = _in_one_palette(pictures)
    elif kind == "WEBP":
        options["lossless"] = True
    first, *others = pictures
    buffer = BytesIO()
    first.save(buffer, kind, save_all=True, append_images=others, loop=0, **options)
    atomic_write(path, buffer.getvalue())


def _check_webp(path: Path) -> None:
    from PIL import features

    if path.suffix == ".webp" and not features.check("webp"):
        raise UserError(f"--output {path}: this Pillow has no WebP; .gif and .apng work")


def _durations(seconds: float, frames: int, kind: str) -> list[int]:
    """Milliseconds of each frame, in the format's steps: their sum is as long as it should be."""
    step = 10 if kind == "GIF" else 1
    ends = [step * round(1000 * seconds * n / frames / step) for n in range(frames + 1)]
    return [b - a for a, b in itertools.pairwise(ends)]


def _in_one_palette(pictures: list[Any]) -> list[Any]:
    """The pictures in 256 colours, the same for all: colours of its own make each flicker."""
    from PIL import Image

    if pictures[0].mode == "L":
        return pictures
    some = pictures[:: -(-len(pictures) // _FOR_PALETTE)]
    width, height = pictures[0].size
    sheet = Image.new("RGB", (width, height * len(some)))
    for row, picture in enumerate(some):
        sheet.paste(picture, (0, row * height))
    palette = sheet.quantize(256, Image.Quantize.MEDIANCUT)
    # Not dithered: the dots would move where the images don't.
    return [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
