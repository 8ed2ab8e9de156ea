"""What a run calls "the same": real images beside slightly changed copies, as a picture."""

from __future__ import annotations

from pathlib import Path

import torch

from fastinfogan.config import TrainConfig
from fastinfogan.config.jitter import AUGMENT_SHARE
from fastinfogan.data import ImageData
from fastinfogan.engine.draws import fill_of
from fastinfogan.kernels.gather import to_float
from fastinfogan.kernels.philox import STREAM_COPY
from fastinfogan.kernels.warp import draw_maps, warp
from fastinfogan.results.grid import label_grid, save_png, tile
from fastinfogan.results.pictures import to_uint8

ROWS, COPIES = 8, 9


def save_changes(path: Path, data: ImageData, config: TrainConfig) -> None:
    """Draw a few real images, each beside copies as --consistency (or --augment) makes them.

    Args:
        path: a PNG; it is there whole or not at all.
        data: real images, of which some are shown, evenly spaced.
        config: resolved, with either of the two on.
    """
    optim, output_range = config.optim, config.architecture.output_range
    rows = data.images[:: max(1, len(data) // ROWS)][:ROWS]
    images = to_float(torch.from_numpy(rows.copy()), output_range)
    fill = fill_of(data, output_range, images.device)
    jitter, says = config.jitter, "the same to Q"
    if not optim.consistency:
        jitter, says = jitter.times(AUGMENT_SHARE), "what D sees"
    seed, zero = torch.tensor([config.run.seed]), torch.zeros(1, dtype=torch.int64)
    shown = images.repeat_interleave(1 + COPIES, dim=0)
    maps = draw_maps(jitter, len(shown), seed, zero, STREAM_COPY, output_range=output_range)
    changed = warp(shown, maps, fill, output_range)
    changed[:: 1 + COPIES] = images  # the first of each row is the image itself
    labels = ["image", *(f"copy {n}" for n in range(1, 1 + COPIES))]
    caption = f"{says}: {optim.jitter}"
    if optim.consistency and optim.augment:
        caption += f"; D sees changes by {AUGMENT_SHARE:g} of it"
    save_png(path, label_grid(tile(to_uint8(changed, output_range), 1 + COPIES), caption, labels))
