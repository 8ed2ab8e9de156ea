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

from collections.abc import Callable, Iterable, Mapping
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from fastinfogan.kernels.codes import Code
from fastinfogan.model.latent_spec import Latents, LatentSpec
from fastinfogan.results.eval_mode import in_eval_mode
from fastinfogan.results.factors.codes import read_codes
from fastinfogan.results.factors.fixed import Shared, factor_vae
from fastinfogan.results.pictures import generate
from fastinfogan.results.run import Run

FEWEST = 3  # runs: two are as central as each other
IMAGES = 2_000  # of each run
VALUES = 10  # of a continuous code
VOTES = (2_000, 1_000)  # to learn from, and to test
_BATCH = 250


def centralities(similarity: Mapping[int, Mapping[int, float]]) -> dict[int, float]:
    """The mean similarity of each run to all others; of fewer than three runs nothing.

    Args:
        similarity: seed -> other seed -> s_ij, of all pairs.
    """
    if len(similarity) < FEWEST:
        return {}
    return {seed: float(np.mean(list(others.values()))) for seed, others in similarity.items()}


def similarities(
    seeds: Iterable[int],
    known: Mapping[tuple[int, int], float],
    load: Callable[[int], Run],
    done: Callable[[int], None],
) -> dict[int, dict[int, float]]:
    """Seed -> other seed -> s_ij, of all pairs of runs.

    Args:
        seeds: of the runs, ascending.
        known: s_ij of pairs (i, j), i < j, that were compared before.
        load: the run of a seed.
        done: told after each comparison of Q with images: 1.
    """
    seeds = list(seeds)
    wanted = [pair for pair in combinations(seeds, 2) if pair not in known]
    scores: dict[tuple[int, int], float] = {}
    for source in seeds:
        readers = [a if b == source else b for a, b in wanted if source in (a, b)]
        if not readers:
            continue
        images, factors = _generated(load(source))
        for reader in readers:
            scores[reader, source] = _score(load(reader), images, factors)
            done(1)
    found: dict[int, dict[int, float]] = {seed: {} for seed in seeds}
    for a, b in combinations(seeds, 2):
        one = known[a, b] if (a, b) in known else (scores[a, b] + scores[b, a]) / 2
        found[a][b] = found[b][a] = one
    return found


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


def _score(run: Run, images: np.ndarray, factors: list[Shared]) -> float:
    """A_ij: of a run's Q on another one's images."""
    spec: LatentSpec = run.config.spec
    with in_eval_mode(run.discriminator):
        codes = read_codes(
            run.discriminator, spec, images, range(len(images)),
            run.config.architecture.output_range, _BATCH,
        )  # fmt: skip
    return factor_vae(codes, factors, np.random.default_rng(0), VOTES)
