"""What a run is scored by where it disentangles: how much it resembles the other runs.

ModelCentrality (Lin, Thekumparampil, Fanti and Oh 2020, section 5): runs that found the factors
are alike, up to the order and sign of their codes, and runs that didn't each fail in their own way.
With A_ij the FactorVAE score of run i's Q on images that run j generates, run j's codes standing in
for the factors that nobody knows,

    similarity   s_ij = (A_ij + A_ji) / 2
    centrality   of i = mean of s_ij over all j but i

The run with the largest centrality is the medoid. For images to share the value of a code, which
the score asks for, a continuous code has one of ten values here, each as probable as the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fastinfogan.config import TrainConfig
from fastinfogan.kernels.codes import Code
from fastinfogan.model.latent_spec import Latents
from fastinfogan.results.eval_mode import in_eval_mode
from fastinfogan.results.factors.codes import read_codes
from fastinfogan.results.factors.fixed import Shared, factor_vae
from fastinfogan.results.pictures import generate
from fastinfogan.results.run import Run

Pair = tuple[int, int]  # two seeds, the smaller first
FEWEST = 3  # runs: two are as central as each other
IMAGES = 2_000  # of each run
VALUES = 10  # of a continuous code
VOTES = (2_000, 1_000)  # to learn from, and to test
_BATCH = 250


def centralities(seeds: Sequence[int], similarity: Mapping[Pair, float]) -> dict[int, float]:
    """The mean similarity of each run to all others; of fewer than three runs nothing.

    Args:
        seeds: of the runs.
        similarity: s_ij of all their pairs.
    """
    if len(seeds) < FEWEST:
        return {}
    found = {}
    for seed in seeds:
        others = ((min(seed, o), max(seed, o)) for o in seeds if o != seed)
        found[seed] = float(np.mean([similarity[pair] for pair in others]))
    return found


def similarities(
    pairs: Iterable[Pair], load: Callable[[int], Run | None]
) -> Iterator[tuple[Pair, float]]:
    """Each pair of runs and its s_ij, as it is found.

    A run is loaded once; its D and its images stay in memory while one of its pairs is to come.

    Args:
        pairs: of seeds, the smaller first.
        load: the run of a seed; None: it isn't there, and its pairs are left out.
    """
    missing = set(pairs)
    last: dict[int, int] = {}  # of each run, the last one that it is compared with
    for low, high in missing:
        last[low] = max(high, last.get(low, high))
    ready: dict[int, _Ready] = {}
    for seed in sorted({seed for pair in missing for seed in pair}):
        if (run := load(seed)) is None:
            continue
        new = _Ready(run.config, run.discriminator, *_generated(run))
        for other, its in ready.items():
            if (other, seed) in missing:
                yield (other, seed), (_score(new, its) + _score(its, new)) / 2
        ready[seed] = new
        ready = {one: its for one, its in ready.items() if last.get(one, seed) > seed}


class _Ready(NamedTuple):
    """What of a run its comparisons take.

    Attributes:
        config: of the run.
        discriminator: whose Q reads others' images.
        images: uint8 (N, H, W, C), its own.
        factors: of its regularised codes the images that share a value.
    """

    config: TrainConfig
    discriminator: nn.Module
    images: np.ndarray
    factors: list[Shared]


@torch.no_grad()
def _generated(run: Run) -> tuple[np.ndarray, list[Shared]]:
    """Images of a run, and of each of its regularised codes those that share a value."""
    spec = run.config.spec
    noise, values = spec.sample(IMAGES, 0, 0)
    for i in spec.continuous:
        values[:, i] = on_grid(values[:, i], spec.codes[i])
    with in_eval_mode(run.generator):
        latents = Latents(noise, values)
        images = generate(run.generator, spec, latents, run.config.architecture.output_range)
    return images, [Shared(values[:, i].numpy()) for i in spec.regularized]


def on_grid(values: Tensor, code: Code) -> Tensor:
    """Draws of a continuous code, (N,), each moved to the middle one of its tenth of the draws."""
    uniform = code.kind == "uniform"
    u = (values + 1) / 2 if uniform else torch.special.ndtr(values)
    u = ((u * VALUES).floor().clamp(0, VALUES - 1) + 0.5) / VALUES
    return 2 * u - 1 if uniform else torch.special.ndtri(u)


def _score(reader: _Ready, source: _Ready) -> float:
    """A_ij: of a run's Q on another one's images."""
    config, images = reader.config, source.images
    with in_eval_mode(reader.discriminator):
        codes = read_codes(
            reader.discriminator, config.spec, images, range(len(images)),
            config.architecture.output_range, _BATCH,
        )  # fmt: skip
    return factor_vae(codes, source.factors, np.random.default_rng(0), VOTES)
