"""What Q reads off real images, as the metrics take it: a number or a category per code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from fastinfogan.kernels.gather import to_float
from fastinfogan.model.latent_spec import LatentSpec
from fastinfogan.ranks.alone import ALONE, Ranks
from fastinfogan.results.eval_mode import eval_device
from fastinfogan.results.factors.protocol import BINS
from fastinfogan.results.shares import in_batches


@dataclass(frozen=True, eq=False)
class Codes:
    """The codes of N images.

    Attributes:
        names: (D,).
        categories: (D,), how many categories a code has; 0: it is a number.
        values: float64 (N, D), the mean of a code's posterior, or its most probable category.
    """

    names: tuple[str, ...]
    categories: tuple[int, ...]
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def part(self, rows: slice | np.ndarray) -> Codes:
        """The codes of some of the images."""
        return Codes(self.names, self.categories, self.values[rows])

    def varies(self) -> np.ndarray:
        """bool (D,): whether a code differs between any two images."""
        return (self.values != self.values[:1]).any(axis=0)

    def bins(self) -> np.ndarray:
        """int64 (N, D): categories as they are, numbers as the bin of a histogram they are in."""
        found = self.values.astype(np.int64)
        for i, count in enumerate(self.categories):
            if not count:
                edges = np.histogram_bin_edges(self.values[:, i], BINS)
                found[:, i] = np.digitize(self.values[:, i], edges[:-1])
        return found

    def columns(self) -> list[np.ndarray]:
        """What a linear classifier reads: (N, 1) of a number, (N, K) one-hot of a category."""
        return [
            np.eye(count)[column.astype(np.int64)] if count else column[:, None]
            for column, count in zip(self.values.T, self.categories, strict=True)
        ]


@torch.no_grad()
def read_codes(
    discriminator: nn.Module,
    spec: LatentSpec,
    images: np.ndarray,
    rows: Sequence[int],
    output_range: tuple[float, float],
    batch_size: int,
    done: Callable[[int], None] = lambda images: None,
    ranks: Ranks = ALONE,
) -> Codes:
    """Have Q read the regularised codes off real images.

    Args:
        discriminator: in eval mode.
        spec: of its codes.
        images: uint8 (N, H, W, C).
        rows: which of them, in which order.
        output_range: what pixels 0 and 255 are to the network.
        batch_size: images at a time.
        done: told after each batch how many images were done.
        ranks: who read them together; each has all codes in the end.
    """
    device = eval_device(discriminator)

    def read(first: int, count: int) -> np.ndarray:
        pixels = torch.from_numpy(images[rows[first : first + count]]).to(device)
        split = spec.split_q(discriminator(to_float(pixels, output_range))[1])
        columns = []
        for i in spec.regularized:
            if spec.codes[i].has_categories:
                columns.append(split[i].argmax(dim=1).double())
            elif spec.codes[i].is_discrete:
                columns.append((split[i][:, 0] > 0).double())
            else:
                columns.append(split[i][:, 0].double())
        return torch.stack(columns, dim=1).cpu().numpy()

    codes = [spec.codes[i] for i in spec.regularized]
    return Codes(
        names=tuple(spec.names[i] for i in spec.regularized),
        categories=tuple(
            code.categories if code.has_categories else 2 * code.is_discrete for code in codes
        ),
        values=np.concatenate(in_batches(len(rows), batch_size, read, ranks, done)),
    )
