"""An animation's frames: one code back and forth, two in a circle, or category after category."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from fastinfogan.errors import UserError, range_works
from fastinfogan.model.latent_spec import Latents, LatentSpec
from fastinfogan.printable import printable
from fastinfogan.results.grid import label_grid, tile
from fastinfogan.results.pictures import (
    MOST_IMAGES,
    category_labels,
    check_range,
    generate,
    ordered_code,
    pin_codes,
)

COLUMNS = 10  # where no categories stand in them
TURN, VALUE = 4.0, 0.5  # seconds: a continuous code's turn; a value of a discrete code
SHORTEST, LONGEST = 0.02, 60.0  # seconds of a frame: browsers take anything faster for 0.1
MOST_FRAMES, MOST_SCALE = 1000, 16
MOST_SIDE = 2**14 - 1  # pixels: the most that WebP can hold
MOST_PIXELS = 2**27  # of all frames: a program that shows them keeps them


@dataclass(frozen=True)
class Scene:
    """What an animation shows.

    Attributes:
        generator: latents (B, spec.input_width) -> images (B, C, H, W) in ``output_range``.
        spec: the latent specification.
        output_range: what becomes black and white.
        codes: index of the code that varies, or of the two.
        values: per frame the value of each.
        latents: of the images, row by row, for all that stays the same.
        columns: images side by side.
        captions: one per frame.
        labels: over the columns; may be empty.
        seconds: that all frames last together.
        scale: as for ``label_grid``.
    """

    generator: nn.Module
    spec: LatentSpec
    output_range: tuple[float, float]
    codes: tuple[int, ...]
    values: tuple[tuple[float, ...], ...]
    latents: Latents
    columns: int
    captions: tuple[str, ...]
    labels: tuple[str, ...]
    seconds: float
    scale: int | None

    def frame(self, number: int) -> np.ndarray:
        """Draw one frame: uint8 (height, width, C), the same for all."""
        noise, codes = self.latents
        codes = codes.clone()
        for code, value in zip(self.codes, self.values[number], strict=True):
            codes[:, code] = value
        images = generate(self.generator, self.spec, Latents(noise, codes), self.output_range)
        return label_grid(
            tile(images, self.columns), self.captions[number], self.labels,
            scale=self.scale, room_for=self.captions,
        )  # fmt: skip

    def frames(self) -> Iterator[np.ndarray]:
        """All frames in order; after the last comes the first again.

        Raises:
            UserError: they would be too large; before anything is given.
        """
        first = self.frame(0)
        height, width, _ = first.shape
        if max(height, width) > MOST_SIDE:
            raise UserError(
                f"an animation of {width:,}x{height:,} pixels is too large: {MOST_SIDE:,} each way "
                "work; lower --rows, --columns or --scale"
            )
        most = MOST_PIXELS // (height * width)
        if len(self.values) > most:
            raise UserError(
                f"{len(self.values)} frames of {width:,}x{height:,} pixels are too much for one "
                f"animation: {most} work; lower --frames, --rows, --columns or --scale"
            )
        yield first
        for number in range(1, len(self.values)):
            yield self.frame(number)


def make_scene(
    generator: nn.Module,
    spec: LatentSpec,
    codes: Sequence[int],
    *,
    output_range: tuple[float, float],
    frames: int = 80,
    rows: int = 4,
    columns: int | None = None,
    seed: int = 0,
    low: float = -2.0,
    high: float = 2.0,
    order: Sequence[int] | None = None,
    category_to_label: Sequence[str | None] | None = None,
    fixed: Mapping[int, float] | None = None,
    seconds: float | None = None,
    scale: int | None = None,
) -> Scene:
    """Lay out an animation: image n, row by row, is sample n of the stream that ``seed`` names.

    One continuous code goes from ``low`` to ``high`` and back, slowing down at both ends; two go
    round a circle, the first as a cosine and the second as a sine. A discrete code shows each of
    its values for a frame. When none of the codes is categorical but another one is, and isn't set
    by hand, its categories stand in the columns.

    Args:
        generator: latents (B, spec.input_width) -> images (B, C, H, W) in ``output_range``.
        spec: the latent specification.
        codes: index of the code that varies, or of two continuous ones.
        output_range: what becomes black and white.
        frames: how many, where a continuous code varies.
        rows: rows of images.
        columns: images in a row; None: one per category if these stand in columns, otherwise 10.
        seed: names the stream of samples.
        low: one end of a continuous code.
        high: its other end.
        order: the order of the categories of ``ordered_code``; default 0, 1, ...
        category_to_label: name per category of that code, for captions and labels.
        fixed: codes set by hand, index -> value.
        seconds: that all frames last together; None: 4, or 0.5 for each value of a discrete code.
        scale: as for ``label_grid``.

    Raises:
        UserError: an argument has an impossible value, or they don't go together.
    """
    fixed = fixed or {}
    _check_codes(spec, codes, fixed)
    check_range(low, high)
    if not 2 <= frames <= MOST_FRAMES:
        raise UserError(f"--frames {frames}: {range_works(2, MOST_FRAMES)}")
    if scale is not None and not 1 <= scale <= MOST_SCALE:
        raise UserError(f"--scale {scale}: {range_works(1, MOST_SCALE)}")

    ordered = ordered_code(spec, codes[0])
    categories: list[int] = []
    if ordered is not None:
        categories = list(range(spec.codes[ordered].categories)) if order is None else list(order)
    across = ordered if ordered is not None and ordered not in (*codes, *fixed) else None
    if columns is None:
        columns = COLUMNS if across is None else len(categories)
    _check_size(rows, columns)

    noise, samples = spec.sample(rows * columns, seed, 0)
    samples = pin_codes(spec, samples, fixed)
    labels: list[str] = []
    if across is not None:
        shown = [categories[column % len(categories)] for column in range(columns)]
        samples[:, across] = torch.tensor(shown).repeat(rows).float()
        labels = [str(category) for category in shown]
        if category_to_label is not None:
            labels = category_labels(shown, category_to_label)

    if len(codes) == 1 and spec.codes[codes[0]].is_discrete:
        steps = categories if ordered == codes[0] else range(spec.codes[codes[0]].choices)
        values = tuple((float(step),) for step in steps)
        seconds = VALUE * len(values) if seconds is None else seconds
    else:
        values = tuple(_loop(len(codes), frames, low, high))
        seconds = max(TURN, SHORTEST * frames) if seconds is None else seconds
    shortest, longest = SHORTEST * len(values), LONGEST * len(values)
    if not shortest <= seconds <= longest:
        raise UserError(
            f"--seconds {seconds:g}: {shortest:g} to {longest:g} work for {len(values)} frames"
        )
    return Scene(
        generator, spec, output_range, tuple(codes), values, Latents(noise, samples), columns,
        captions=tuple(
            _caption(spec, codes, point, across, category_to_label) for point in values
        ),
        labels=tuple(labels), seconds=seconds, scale=scale,
    )  # fmt: skip


def _check_codes(spec: LatentSpec, codes: Sequence[int], fixed: Mapping[int, float]) -> None:
    names = [spec.names[code] for code in codes]
    stepping = [spec.names[code] for code in codes if spec.codes[code].is_discrete]
    pair = len(codes) == 2 and codes[0] != codes[1] and not stepping
    if len(codes) != 1 and not pair:
        not_so = f", and {stepping[0]} isn't" if stepping else ""
        raise UserError(
            f"--code {','.join(names)}: one code, or a circle through two that are "
            f"continuous{not_so}"
        )
    for code, name in zip(codes, names, strict=True):
        if code in fixed:
            raise UserError(f"--set {name}={fixed[code]:g}: this is a code that varies")


def _check_size(rows: int, columns: int) -> None:
    if not 1 <= columns <= MOST_IMAGES:
        raise UserError(f"--columns {columns}: {range_works(1, MOST_IMAGES)}")
    most = MOST_IMAGES // columns
    if not 1 <= rows <= most:
        raise UserError(f"--rows {rows}: with {columns} columns {range_works(1, most)}")


def _loop(codes: int, frames: int, low: float, high: float) -> Iterator[tuple[float, ...]]:
    """Points of one turn. A single code sees the circle from the side, and begins at ``low``."""
    middle, radius = (low + high) / 2, (high - low) / 2
    for frame in range(frames):
        angle = 2 * math.pi * frame / frames
        if codes == 1:
            yield (middle - radius * math.cos(angle),)
        else:
            yield middle + radius * math.cos(angle), middle + radius * math.sin(angle)


def _caption(
    spec: LatentSpec,
    codes: Sequence[int],
    point: Sequence[float],
    across: int | None,
    category_to_label: Sequence[str | None] | None,
) -> str:
    """What a frame shows: the value of each code, and what the labels over the columns are."""
    said = []
    for code, value in zip(codes, point, strict=True):
        if not spec.codes[code].is_discrete:
            said.append(f"{spec.names[code]} = {round(value, 2) + 0.0:.2f}")  # no -0.00
            continue
        text = f"{spec.names[code]} = {value:.0f}"
        if spec.codes[code].has_categories and category_to_label is not None:
            label = category_to_label[int(value)]
            text += f", matches {'none' if label is None else printable(label, 40)}"
        said.append(text)
    if across is not None:
        beside = " and what it matches" if category_to_label is not None else ""
        said.append(f"columns: {spec.names[across]}{beside}")
    return "; ".join(said)
