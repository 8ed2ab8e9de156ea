"""A trained generator in use: set codes by hand, draw samples and traversals, save them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fastinfogan.device import free_memory
from fastinfogan.errors import UserError, range_works
from fastinfogan.files import atomic_write
from fastinfogan.model.latent_spec import Latents, LatentSpec
from fastinfogan.paths import expanded, with_ending
from fastinfogan.results.animation import Scene, make_scene
from fastinfogan.results.grid import label_grid, save_png, tile
from fastinfogan.results.pictures import (
    MOST_IMAGES,
    column_order,
    generate,
    label_traversal,
    ordered_code,
    pin_codes,
    pinned_by,
    traversal,
)

MOST_BYTES = 2**32  # of images in a file
SAMPLES = 128  # images in a picture of samples


@dataclass(frozen=True)
class TrainedGenerator:
    """A generator and what it takes to use it.

    Attributes:
        generator: latents (B, spec.input_width) -> images (B, C, H, W), in eval mode.
        spec: the latent specification.
        output_range: what black and white are to the generator.
        code_to_label: name of a categorical code -> the label that each category shows, None
            where none fits; may be empty.
        config: the training configuration as JSON values, if it is known.
    """

    generator: nn.Module
    spec: LatentSpec
    output_range: tuple[float, float]
    code_to_label: Mapping[str, Sequence[str | None]]
    config: Mapping[str, Any] = field(default_factory=dict)

    def code_index(self, name: str, flag: str) -> int:
        """Find a code by the name that a user typed.

        Args:
            name: short or full, e.g. c2 or c2_uni.
            flag: where it was typed, for the error.

        Returns:
            The code's index, from 0.

        Raises:
            UserError: there is no such code.
        """
        for i, full in enumerate(self.spec.names):
            if name in (full, full.split("_")[0]):
                return i
        raise UserError(f"{flag} {name!r}: no such code; there are {', '.join(self.spec.names)}")

    def parse_codes(self, text: str) -> dict[int, float]:
        """Read the codes that a user sets by hand.

        Args:
            text: e.g. ``c1=3,c2=-1.5``.

        Returns:
            Index of a code -> its value.

        Raises:
            UserError: the text is something else, or a code doesn't exist or is set twice.
        """
        fixed: dict[int, float] = {}
        for item in filter(None, (part.strip() for part in text.split(","))):
            name, _, value = item.partition("=")
            try:
                number = float(value)
            except ValueError:
                raise UserError(f"--set {item!r}: write CODE=NUMBER, as in c1=3") from None
            code = self.code_index(name.strip(), "--set")
            if code in fixed:
                raise UserError(f"--set {text!r}: sets {self.spec.names[code]} twice")
            fixed[code] = number
        return fixed

    def latents(
        self, count: int, *, seed: int = 0, fixed: Mapping[int | str, float] | None = None
    ) -> Latents:
        """Samples 0, 1, ... of the stream that ``seed`` names.

        Args:
            count: how many.
            seed: of noise and codes.
            fixed: codes set by hand, name (c1, or c1_cat10) or index from 0 -> value; a category
                is its index.

        Returns:
            Noise, float32 (count, noise), and code values, float32 (count, codes).

        Raises:
            UserError: there is no such code, or it can't take its value.
        """
        noise, values = self.spec.sample(count, seed, 0)
        return Latents(noise, pin_codes(self.spec, values, self._by_index(fixed)))

    def _by_index(self, fixed: Mapping[int | str, float] | None) -> dict[int, float]:
        return {self._index(code): value for code, value in (fixed or {}).items()}

    def _index(self, code: int | str) -> int:
        return self.code_index(code, "code") if isinstance(code, str) else code

    def sample(
        self, count: int, *, seed: int = 0, fixed: Mapping[int | str, float] | None = None
    ) -> np.ndarray:
        """Draw images.

        Args:
            count: how many.
            seed: of noise and codes.
            fixed: codes set by hand, as for ``latents``.

        Returns:
            uint8 (count, H, W, C).

        Raises:
            UserError: there is no such code, or it can't take its value.
        """
        latents = self.latents(count, seed=seed, fixed=fixed)
        return generate(self.generator, self.spec, latents, self.output_range)

    def traverse(
        self,
        code: int | str,
        *,
        rows: int = 10,
        columns: int = 10,
        low: float = -2.0,
        high: float = 2.0,
        seed: int = 0,
        fixed: Mapping[int | str, float] | None = None,
    ) -> np.ndarray:
        """``pictures.traversal`` under a caption, with categories in the order of their labels.

        Args:
            code: the code to vary: its name (c2, or c2_uni) or its index from 0.
            rows: samples of noise.
            columns: values of a continuous code.
            low: first value of a continuous code.
            high: last value of a continuous code.
            seed: of noise and codes.
            fixed: codes set by hand, as for ``latents``.

        Returns:
            uint8 (height, width, C).

        Raises:
            UserError: there is no such code, it can't take its value, or ``fixed`` sets ``code``.
        """
        code, fixed, spec = self._index(code), self._by_index(fixed), self.spec
        ordered, labels, order = self._ordered(code)
        grid = traversal(
            self.generator, spec, code, output_range=self.output_range, rows=rows,
            columns=columns, seed=seed, low=low, high=high, order=order, fixed=fixed,
        )  # fmt: skip
        return label_traversal(
            grid, spec, code, columns=columns, low=low, high=high, order=order,
            category_to_label=labels if ordered == code else None, fixed=fixed,
        )  # fmt: skip

    def animate(
        self,
        codes: int | str | Sequence[int | str],
        *,
        frames: int = 80,
        rows: int = 4,
        columns: int | None = None,
        low: float = -2.0,
        high: float = 2.0,
        seed: int = 0,
        fixed: Mapping[int | str, float] | None = None,
        seconds: float | None = None,
        scale: int | None = None,
    ) -> Scene:
        """``animation.make_scene``, with categories in the order of their labels.

        Args:
            codes: the code to vary, or two to go round a circle through: names or indices.
            frames: how many, where a continuous code varies.
            rows: rows of images.
            columns: images in a row; None: one per category if these stand in columns, else 10.
            low: one end of a continuous code.
            high: its other end.
            seed: of noise and codes: image n, row by row, is sample n.
            fixed: codes set by hand, as for ``latents``.
            seconds: that all frames last; None: 4, or 0.5 for each value of a discrete code.
            scale: enlargement, 1 to 16; None: 2 if it is then at most 1000 pixels wide, else 1.

        Returns:
            Whose ``frames()`` are the pictures; ``animation_file.save_animation`` writes them.

        Raises:
            UserError: there is no such code, it can't take its value, or a number is out of range.
        """
        given = [codes] if isinstance(codes, int | str) else codes
        varied = [self._index(code) for code in given]
        _, labels, order = self._ordered(varied[0])
        return make_scene(
            self.generator, self.spec, varied, output_range=self.output_range, frames=frames,
            rows=rows, columns=columns, seed=seed, low=low, high=high, order=order,
            category_to_label=labels, fixed=self._by_index(fixed), seconds=seconds, scale=scale,
        )  # fmt: skip

    def _ordered(
        self, code: int
    ) -> tuple[int | None, Sequence[str | None] | None, list[int] | None]:
        """What is in order when ``code`` varies: the code, its labels and its categories' order."""
        ordered = ordered_code(self.spec, code)
        labels = None if ordered is None else self.code_to_label.get(self.spec.names[ordered])
        return ordered, labels, None if labels is None else column_order(labels)

    def save_samples(
        self,
        path: Path | str,
        count: int = SAMPLES,
        *,
        seed: int = 0,
        fixed: Mapping[int | str, float] | None = None,
    ) -> None:
        """Write ``sample(...)`` as a picture, or with its latents as arrays.

        Args:
            path: NAME.png, or NAME.npz with ``images`` uint8 (count, H, W, C), ``noise`` float32
                (count, noise) and ``values`` float32 (count, codes), a category as its index.
            count: how many images.
            seed: of noise and codes.
            fixed: codes set by hand, as for ``latents``.

        Raises:
            UserError: the name ends otherwise, there are too many images for it, there is no such
                code, or it can't take its value.
        """
        path = with_ending(expanded(path), ".png", ".npz")
        most = MOST_IMAGES if path.suffix == ".png" else self._most_in_memory()
        if not 1 <= count <= most:
            raise UserError(f"--count {count}: {range_works(1, most)} in a {path.suffix}")
        images = self.sample(count, seed=seed, fixed=fixed)
        if path.suffix == ".npz":
            noise, values = self.latents(count, seed=seed, fixed=fixed)
            buffer = BytesIO()
            np.savez(buffer, images=images, noise=noise.numpy(), values=values.numpy())
            atomic_write(path, buffer.getvalue())
            return
        pinned = pinned_by(self.spec, self._by_index(fixed))
        caption = ", ".join(filter(None, [f"samples of seed {seed}", pinned]))
        save_png(path, _under_caption(images, caption))

    def _most_in_memory(self) -> int:
        """How many images with their latents can be written at once: they are held three times."""
        of_each = self.sample(1).nbytes + 4 * self.spec.input_width
        free = free_memory(torch.device("cpu"))
        return max(1, min(MOST_BYTES, free // 4) // of_each)

    def pictures(self) -> dict[str, np.ndarray]:
        """A grid of samples, "samples", and the traversal of every code, "traversal_CODE".

        Returns:
            Name -> uint8 (height, width, C).
        """
        drawn = {"samples": _under_caption(self.sample(SAMPLES), "samples of seed 0")}
        for code, name in enumerate(self.spec.names):
            drawn[f"traversal_{name}"] = self.traverse(code)
        return drawn


def _under_caption(images: np.ndarray, caption: str) -> np.ndarray:
    return label_grid(tile(images, columns=min(len(images), 16)), caption)
