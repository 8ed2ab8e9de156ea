"""Pictures: grids of generated images, the traversal of one code, captions, a run's curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from fastinfogan.errors import UserError
from fastinfogan.files import atomic_write
from fastinfogan.kernels.codes import LOG_SIGMA_BOUND, Code
from fastinfogan.model.latent_spec import Latents, LatentSpec
from fastinfogan.results.evaluate import eval_device

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.ImageFont import FreeTypeFont

GAP, GAP_GREY = 1, 128  # pixels between images, and their value
_BATCH = 256  # images generated at a time
_MAX_DOUBLED = 1000  # a grid is drawn at twice its size where that stays within so many pixels
_CAPTION_SIZE, _LABEL_SIZE, _SMALLEST_LABEL = 15, 13, 9  # font sizes in pixels


# -- Images ----------------------------------------------------------------------------------


def to_uint8(images: Tensor, output_range: tuple[float, float]) -> np.ndarray:
    """Float images (N, C, H, W) -> uint8 (N, H, W, C): ``output_range`` becomes 0 to 255.

    Rounds to the nearest value; what lies outside the range is clipped.
    """
    low, high = output_range
    scaled = (images.float() - low) * (255.0 / (high - low))
    pixels = scaled.round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).cpu().numpy())


@torch.no_grad()
def generate(
    generator: nn.Module, spec: LatentSpec, latents: Latents, output_range: tuple[float, float]
) -> np.ndarray:
    """Images of the given latents, uint8 (N, H, W, C).

    Raises:
        ValueError: the generator isn't in eval mode.
    """
    device = eval_device(generator)
    batches = zip(*(part.to(device).split(_BATCH) for part in latents), strict=True)
    return np.concatenate(
        [to_uint8(generator(spec.assemble(*batch)), output_range) for batch in batches]
    )


def pin_codes(spec: LatentSpec, values: Tensor, fixed: Mapping[int, float]) -> Tensor:
    """Code values (N, codes) with some codes set by hand: index of a code -> its value.

    Raises:
        UserError: a code can't take its value.
    """
    values = values.clone()
    for i, value in fixed.items():
        code, asked = spec.codes[i], f"--set {spec.names[i]}={value:g}"
        if code.is_discrete and value not in range(code.choices):
            raise UserError(f"{asked}: whole numbers from 0 to {code.choices - 1} work")
        if not math.isfinite(value):
            raise UserError(f"{asked}: finite numbers work")
        values[:, i] = value
    return values


# -- Grids -------------------------------------------------------------------------------------


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
        order: the order of the categories of ``ordered_code``; default 0, 1, ...
        fixed: codes set by hand for all rows, index -> value.

    Returns:
        uint8 (height, width, C), images and ``GAP`` pixels around each.

    Raises:
        UserError: a value of ``fixed`` can't be, or fixes the varied code.
    """
    fixed = fixed or {}
    if code in fixed:
        raise UserError(f"--set {spec.names[code]}={fixed[code]:g}: this is the code that varies")
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


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """Images, uint8 (N, H, W, C), in one picture, row by row, ``GAP`` pixels around each."""
    empty = -len(images) % columns
    cells = np.pad(images, ((0, empty), (0, 0), (0, 0), (0, 0)), constant_values=GAP_GREY)
    cells = np.pad(cells, ((0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=GAP_GREY)
    count, height, width, channels = cells.shape
    grid = cells.reshape(-1, columns, height, width, channels).swapaxes(1, 2)
    grid = grid.reshape(count // columns * height, columns * width, channels)
    return np.pad(grid, ((GAP, 0), (GAP, 0), (0, 0)), constant_values=GAP_GREY)


# -- Captions ----------------------------------------------------------------------------------


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
) -> np.ndarray:
    """``label_grid`` for what ``traversal`` drew with the same arguments.

    Args:
        category_to_label: name per category of ``code``, written under the category's number.
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
            names = (category_to_label[int(value)] for value in shown)
            labels = [
                f"{label}\n{'none' if name is None else name}"
                for label, name in zip(labels, names, strict=True)
            ]
    return label_grid(grid, caption, labels)


def label_grid(grid: np.ndarray, caption: str, labels: Sequence[str] = ()) -> np.ndarray:
    """A picture that explains itself: caption on top, then a label over each column, then ``grid``.

    Args:
        grid: uint8 (height, width, C); doubled in size if that keeps it within 1000 pixels.
        caption: one line.
        labels: one per column of images; a label may have several lines.

    Returns:
        uint8 (H, W, C), dark text on white.
    """
    from PIL import Image, ImageDraw, ImageFont

    scale = 2 if 2 * grid.shape[1] <= _MAX_DOUBLED else 1
    grid = grid.repeat(scale, axis=0).repeat(scale, axis=1)
    height, width, channels = grid.shape
    font = ImageFont.load_default(_CAPTION_SIZE)
    caption_height, line_height = _CAPTION_SIZE + 8, _LABEL_SIZE + 3
    lines = max((label.count("\n") + 1 for label in labels), default=0)
    top = caption_height + lines * line_height + (3 if labels else 0)
    mode, white, ink = ("L", 255, 0) if channels == 1 else ("RGB", (255,) * 3, (0,) * 3)
    canvas_width = max(width, math.ceil(font.getlength(caption)) + 8)
    canvas = Image.new(mode, (canvas_width, top + height), white)
    canvas.paste(_to_pillow(grid), (0, top))
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
    """Write uint8 (H, W, C), C = 1 or 3, as PNG; the file is there whole or not at all."""
    buffer = BytesIO()
    _to_pillow(image).save(buffer, format="png")
    atomic_write(Path(path), buffer.getvalue())


def _to_pillow(image: np.ndarray) -> Any:
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


# -- Curves ------------------------------------------------------------------------------------


def plot_curves(
    metrics: Sequence[Mapping[str, Any]],
    spec: LatentSpec,
    path: Path | str,
    baseline: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Draw L_I per regularised code (paper, Fig. 1) and the losses against the iteration, as PNG.

    Args:
        metrics: rows of metrics.jsonl, one or more: ``iteration``, ``mi_per_code`` (nats, by the
            names in ``spec.names``), ``d_loss``, ``g_loss``.
        spec: the latent specification.
        path: the file; written whole or not at all.
        baseline: rows of a plain GAN's run with the same codes, drawn in grey.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = {
        title: codes
        for title, codes in (
            ("discrete codes", [i for i in spec.regularized if spec.codes[i].is_discrete]),
            ("continuous codes", [i for i in spec.regularized if not spec.codes[i].is_discrete]),
        )
        if codes
    }
    figure = Figure(figsize=(5.5 * len(panels), 6.5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplot_mosaic([list(panels), ["losses"] * len(panels)], height_ratios=[3, 2])
    for title, codes in panels.items():
        _draw_information(axes[title], spec, codes, metrics, baseline or ())
        axes[title].set(title=f"$L_I$ of the {title}", ylabel="nats")
    for key, name, color in (("d_loss", "D", "C3"), ("g_loss", "G", "C2")):
        values = [row[key] for row in metrics]
        _draw_curve(axes["losses"], metrics, values, color=color, label=name)
    axes["losses"].set(title="losses", xlabel="iteration", ylabel="nats")
    for panel in axes.values():
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_xlim(left=0)
        panel.legend(fontsize="small", edgecolor="none", ncols=2 if len(panel.lines) > 6 else 1)
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    atomic_write(Path(path), buffer.getvalue())


def _draw_information(
    axes: Axes,
    spec: LatentSpec,
    codes: Sequence[int],
    metrics: Sequence[Mapping[str, Any]],
    baseline: Sequence[Mapping[str, Any]],
) -> None:
    bounds: dict[str, float] = {}
    for i in codes:
        name, code, best = spec.names[i], spec.codes[i], spec.codes[i].best_mi
        _draw_curve(axes, metrics, [row["mi_per_code"][name] for row in metrics], label=name)
        if code.is_discrete:
            bounds[f"H(c) = {best:.2f}"] = best
        elif code.std == "learned":
            smallest = math.exp(-LOG_SIGMA_BOUND)
            bounds[f"best, with the smallest σ = {smallest:.3f}: {best:.2f}"] = best
        else:
            bounds[f"best, with σ = 1: H(c) - ½ log 2π = {best:.2f}"] = best
    for n, i in enumerate(codes if baseline else ()):
        values = [row["mi_per_code"][spec.names[i]] for row in baseline]
        label = "_" if n else "GAN baseline"  # matplotlib's legends leave out "_"
        _draw_curve(axes, baseline, values, color="0.4", linestyle=":", label=label)
    for label, best in bounds.items():
        axes.axhline(best, color="black", linestyle="--", linewidth=1, label=label)
    # Knowing nothing costs less than 1 nat: a worse start would only flatten what follows.
    axes.set_ylim(bottom=max(axes.get_ylim()[0], -1.0))


def _draw_curve(
    axes: Axes, rows: Sequence[Mapping[str, Any]], values: Sequence[float], **style: Any
) -> None:
    marker = "o" if len(rows) == 1 else ""  # a line of one point can't be seen
    axes.plot([row["iteration"] for row in rows], values, marker=marker, linewidth=1.2, **style)
