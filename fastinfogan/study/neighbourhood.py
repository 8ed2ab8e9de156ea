"""What a run is scored by where it sorts: images that look alike should have one category.

For one categorical code, over each image and its 10 nearest others (squared distance of pixels):

    neighbourhood   kappa = (p - p_e) / (1 - p_e)

where p is the share of these pairs that have one category, and p_e what it would be if categories
were dealt out by chance (Cohen 1960, "A coefficient of agreement for nominal scales"). 1 is best;
0 is chance, and is given to a run that puts everything into one category. Distances are in the
pixels, where no run had a hand in them. docs/log.md has how it ranks runs, and what ranked them
worse: Q's confidence, its consistency, and how much runs agree with each other, which is a vote
for whatever mistake most of them make.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from fastinfogan.data import ImageData
from fastinfogan.model.latent_spec import LatentSpec
from fastinfogan.results.factors.codes import read_codes

NEIGHBOURS = 10
MOST_IMAGES = 10_000
CELLS = 16  # across an image, at most: fewer numbers, and strokes may lie a pixel apart
_BLOCK = 500  # images whose distances are in memory at a time


def nearest(images: np.ndarray, count: int = NEIGHBOURS) -> np.ndarray:
    """The nearest other images of each.

    Args:
        images: (N, H, W, C) uint8; distances are those of their means over cells.
        count: how many; fewer if there aren't as many others.

    Returns:
        int64 (N, count).
    """
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    size = -(-max(images.shape[1:3]) // CELLS)
    cells = torch.cat([  # in blocks: float64 images of a large set would fill the memory
        F.avg_pool2d(part.double(), size, ceil_mode=True).flatten(1)
        for part in pixels.split(_BLOCK)
    ])  # fmt: skip
    squares, found = cells.square().sum(1), []
    count = min(count, len(cells) - 1)
    for first in range(0, len(cells), _BLOCK):
        block = cells[first : first + _BLOCK]
        distances = torch.addmm(squares, block, cells.T, alpha=-2)
        rows = torch.arange(len(block))
        distances[rows, first + rows] = torch.inf  # an image is no neighbour of its own
        found.append(distances.topk(count, largest=False).indices)
    return torch.cat(found).numpy()


def kappa(categories: np.ndarray, neighbours: np.ndarray) -> float:
    """Cohen's kappa of the categories of images and of their neighbours.

    Args:
        categories: int64 (N,).
        neighbours: int64 (N, k).
    """
    if not neighbours.size:
        return 0.0
    count = int(categories.max()) + 1
    theirs = categories[neighbours]
    same = float((theirs == categories[:, None]).mean())
    shares = [np.bincount(c.ravel(), minlength=count) / c.size for c in (categories, theirs)]
    by_chance = float(np.dot(*shares))
    return 0.0 if by_chance == 1.0 else (same - by_chance) / (1.0 - by_chance)


def neighbourhood(
    discriminator: nn.Module,
    spec: LatentSpec,
    data: ImageData,
    neighbours: np.ndarray,
    output_range: tuple[float, float],
) -> float:
    """A run's score.

    Args:
        discriminator: in eval mode.
        spec: of its codes, with a regularised categorical one at least.
        data: images, of which as many are looked at as have ``neighbours``; labels aren't.
        neighbours: int64 (N, k), from ``nearest``.
        output_range: what pixels 0 and 255 are to the networks.

    Returns:
        kappa; with several categorical codes, their mean.
    """
    rows = range(len(neighbours))
    codes = read_codes(discriminator, spec, data.images, rows, output_range, _BLOCK)
    found = [
        kappa(codes.values[:, column].astype(np.int64), neighbours)
        for column, i in enumerate(spec.regularized)
        if spec.codes[i].has_categories
    ]
    return float(np.mean(found))
