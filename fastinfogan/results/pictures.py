"""Images from latents, codes set by hand, and the traversal of one code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import SupportsFloat

import numpy as np
import torch
from torch import Tensor, nn

from fastinfogan.errors import UserError, range_works
from fastinfogan.kernels.codes import Code
from fastinfogan.model.latent_spec import Latents, LatentSpec
from fastinfogan.printable import printable
from fastinfogan.results.eval_mode import eval_device
from fastinfogan.results.grid import label_grid, tile

_BATCH = 256  # images generated at a time
MOST_IMAGES = 2**14  # in a picture: what programs that show it can be expected to open
MOST_VALUE = 1e6  # of a continuous code: training sees a few units of it
_RANGE = f"from {-MOST_VALUE:.0f} to {MOST_VALUE:.0f}"


def to_uint8(images: Tensor, output_range: tuple[float, float]) -> np.ndarray:
    """Images as pixels: ``output_range`` becomes 0 to 255.

    Args:
        images: float (N, C, H, W).
        output_range: the values of black and white; what lies outside is clipped.

    Returns:
        uint8 (N, H, W, C), rounded to the nearest value.
    """
    low, high = output_range
    scaled = (images.float() - low) * (255.0 / (high - low))
    pixels = scaled.round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).cpu().numpy())


@torch.no_grad()
def generate(
    generator: nn.Module, spec: LatentSpec, latents: Latents, output_range: tuple[float, float]
) -> np.ndarray:
    """Images of the given latents.

    Args:
        generator: latents (B, spec.input_width) -> images (B, C, H, W) in ``output_range``.
        spec: the latent specification.
        latents: noise (N, noise) and code values (N, codes).
        output_range: what becomes black and white.

    Returns:
        uint8 (N, H, W, C).

    Raises:
        ValueError: the generator isn't in eval mode.
    """
    device = eval_device(generator)
    batches = zip(*(part.to(device).split(_BATCH) for part in latents), strict=True)
    return np.concatenate(
        [to_uint8(generator(spec.assemble(*batch)), output_range) for batch in batches]
    )


def pin_codes(spec: LatentSpec, values: Tensor, fixed: Mapping[int, float]) -> Tensor:
    """Set some codes by hand.

    Args:
        spec: the latent specification.
        values: float (N, codes); left as they are.
        fixed: index of a code -> its value in every row.

    Returns:
        A copy of ``values`` with these codes set.

    Raises:
        UserError: a code can't take its value.
    """
    values = values.clone()
    for i, value in fixed.items():
        if not isinstance(value, SupportsFloat):
            raise UserError(f"--set {spec.names[i]}={value!r}: a number works")
        code, asked = spec.codes[i], f"--set {spec.names[i]}={value:g}"
        if code.is_discrete and value not in range(code.choices):
            raise UserError(f"{asked}: whole numbers from 0 to {code.choices - 1} work")
        if not abs(value) <= MOST_VALUE:
            raise UserError(f"{asked}: finite numbers {_RANGE} work")
        values[:, i] = value
    return values


def traversal(
    generator: nn.Module,
    spec: LatentSpec,
    code: int,
    *,
    output_range: tuple[float, float],
    rows: int = 10,
    columns: int = 10,
    seed: int = 0,
    low: float = -2.0,
    high: float = 2.0,
    order: Sequence[int] | None = None,
    fixed: Mapping[int, float] | None = None,
) -> np.ndarray:
    """One code varied from left to right, everything else constant along a row (paper, Fig. 2).

    Row r has the noise and the other codes of sample r of the stream that ``seed`` names. When
    the varied code isn't categorical but another one is, row r shows category r of the first.

    Args:
        generator: latents (B, spec.input_width) -> images (B, C, H, W) in ``output_range``.
        spec: the latent specification.
        code: index of the code to vary. The columns are all its categories, 0 and 1 for a
            Bernoulli code, or ``columns`` values from ``low`` to ``high`` (training sees -1 to 1
            of a uniform code).
        output_range: what becomes black and white.
        rows: samples of noise.
        columns: values of a continuous code.
        seed: names the stream of samples.
        low: first value of a continuous code.
        high: last value of a continuous code.
        order: the order of the categories of ``ordered_code``; default 0, 1, ...
        fixed: codes set by hand for all rows, index -> value.

    Returns:
        uint8 (height, width, C), images and ``GAP`` pixels around each.

    Raises:
        UserError: ``fixed`` has an impossible value, or sets the code that varies; ``low`` or
            ``high`` is none, or there would be no image or too many.
        ValueError: the generator isn't in eval mode, or ``order`` is no permutation.
    """
    fixed = fixed or {}
    if code in fixed:
        raise UserError(f"--set {spec.names[code]}={fixed[code]:g}: this is the code that varies")
    _check_size(spec.codes[code], rows, columns)
    check_range(low, high)
    shown = _column_values(spec.codes[code], columns, low, high, order)
    noise, values = spec.sample(rows, seed, 0)
    ordered = ordered_code(spec, code)
    if ordered not in (None, code):
        categories = torch.tensor(_categories(spec.codes[ordered], order))
        values[:, ordered] = categories[torch.arange(rows) % len(categories)].float()
    noise = noise.repeat_interleave(len(shown), dim=0)
    values = pin_codes(spec, values, fixed).repeat_interleave(len(shown), dim=0)
    values[:, code] = torch.tensor(shown).repeat(rows)
    return tile(generate(generator, spec, Latents(noise, values), output_range), len(shown))


def ordered_code(spec: LatentSpec, code: int) -> int | None:
    """Index of the code whose categories are in order when ``code`` varies.

    ``code`` itself, along the columns, if it is categorical; otherwise the first categorical
    code, along the rows; None if there is none.
    """
    if spec.codes[code].has_categories:
        return code
    return next((i for i, c in enumerate(spec.codes) if c.has_categories), None)


def column_order(category_to_label: Sequence[str | None]) -> list[int]:
    """Categories sorted by label, numbers as numbers, those without a label last."""

    def key(category: int) -> tuple[bool, bool, int, str]:
        label = category_to_label[category] or ""
        number = label.isdecimal()
        return category_to_label[category] is None, not number, int(label) if number else 0, label

    return sorted(range(len(category_to_label)), key=key)


def check_range(low: float, high: float) -> None:
    """Refuse ends of a continuous code that are no numbers, or absurd ones."""
    for flag, value in (("--low", low), ("--high", high)):
        if not abs(value) <= MOST_VALUE:
            raise UserError(f"{flag} {value}: finite numbers {_RANGE} work")


def _check_size(code: Code, rows: int, columns: int) -> None:
    if not 1 <= columns <= MOST_IMAGES:
        raise UserError(f"--columns {columns}: {range_works(1, MOST_IMAGES)}")
    beside = code.choices if code.is_discrete else columns
    most = MOST_IMAGES // beside
    if not 1 <= rows <= most:
        raise UserError(f"--rows {rows}: with {beside} columns {range_works(1, most)}")


def _column_values(
    code: Code, columns: int, low: float, high: float, order: Sequence[int] | None
) -> list[float]:
    if code.has_categories:
        return [float(k) for k in _categories(code, order)]
    if code.is_discrete:
        return [float(value) for value in range(code.choices)]
    return torch.linspace(low, high, columns).tolist()


def _categories(code: Code, order: Sequence[int] | None) -> list[int]:
    if order is None:
        return list(range(code.categories))
    if sorted(order) != list(range(code.categories)):
        raise ValueError(f"order {list(order)}: not a permutation of {code.categories} categories")
    return list(order)


def label_traversal(
    grid: np.ndarray,
    spec: LatentSpec,
    code: int,
    *,
    columns: int = 10,
    low: float = -2.0,
    high: float = 2.0,
    order: Sequence[int] | None = None,
    category_to_label: Sequence[str | None] | None = None,
    fixed: Mapping[int, float] | None = None,
) -> np.ndarray:
    """Write over a grid that ``traversal`` drew what it shows.

    Args:
        grid: uint8 (height, width, C).
        spec: the latent specification.
        code: as for ``traversal``, like ``columns``, ``low``, ``high`` and ``order``.
        columns: values of a continuous code.
        low: first value of a continuous code.
        high: last value of a continuous code.
        order: the order of the categories.
        category_to_label: name per category of ``code``, written under the category's number.
        fixed: codes that were set by hand.

    Returns:
        What ``label_grid`` gives.
    """
    varied = spec.codes[code]
    shown = _column_values(varied, columns, low, high, order)
    caption = f"{spec.names[code]}, value"
    if varied.is_discrete:
        labels = [str(int(value)) for value in shown]
    else:
        labels = [f"{value:.2f}" for value in shown]
    if varied.has_categories:
        caption = f"{spec.names[code]}, category"
        if category_to_label is not None:
            caption += " (above) and the label it matches (below)"
            labels = category_labels([int(value) for value in shown], category_to_label)
    pinned = pinned_by(spec, fixed or {})
    return label_grid(grid, f"{caption}; {pinned}" if pinned else caption, labels)


def pinned_by(spec: LatentSpec, fixed: Mapping[int, float]) -> str:
    """What a caption says of codes that were set by hand."""
    return ", ".join(f"{spec.names[code]} = {value:g}" for code, value in fixed.items())


def category_labels(
    categories: Sequence[int], category_to_label: Sequence[str | None]
) -> list[str]:
    """What stands over the column of each category: its number, and under it what it matches."""
    names = (category_to_label[category] for category in categories)
    return [
        f"{category}\n{'none' if name is None else printable(name, 40)}"
        for category, name in zip(categories, names, strict=True)
    ]
