"""Choosing a run without labels: scores of Q on unlabelled images.

For one categorical code, with q(x) = Q(c | x) and T a small change of an image:

    information   H(mean q) - mean H(q), in nats: all categories in use, each image sure of its
                  own (Hu et al. 2017, eq. 5)
    confidence    mean of the largest probability
    consistency   - mean KL(q(x) || q(T(x))), in nats
    steadiness    share of images whose category is that of T(x)

and of a study's runs together, as ModelCentrality has it (Lin et al. 2020, section 4):

    agreement     mean over the other runs of the normalised mutual information between a run's
                  categories and theirs: runs that found what is there agree, others stray apart

All are the better the larger. With several categorical codes, means over the codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from fastinfogan.data import ImageData
from fastinfogan.engine.draws import fill_of
from fastinfogan.kernels.gather import to_float
from fastinfogan.kernels.jitter import Jitter
from fastinfogan.kernels.philox import STREAM_COPY
from fastinfogan.kernels.warp import draw_maps, warp
from fastinfogan.model.latent_spec import LatentSpec
from fastinfogan.results.eval_mode import eval_device

SCORES = ("agreement", "information", "confidence", "consistency", "steadiness")
CHOSEN_BY = "agreement"  # docs/log.md has the others' rank correlations
MOST_IMAGES = 10_000


@torch.no_grad()
def look(
    discriminator: nn.Module,
    spec: LatentSpec,
    data: ImageData,
    jitter: Jitter,
    output_range: tuple[float, float],
    batch_size: int = 500,
) -> tuple[dict[str, float], np.ndarray]:
    """A run's own scores, and the categories that it sees.

    Args:
        discriminator: in eval mode.
        spec: of its codes, with a regularised categorical one at least.
        data: images, of which the first 10,000 are looked at; labels aren't.
        jitter: what a small change is.
        output_range: what pixels 0 and 255 are to the networks.
        batch_size: images at a time.

    Returns:
        Score -> value, all but ``agreement``; and int64 (codes, images).
    """
    device = eval_device(discriminator)
    fill = fill_of(data, output_range, device)
    codes = [i for i in spec.regularized if spec.codes[i].has_categories]
    seed = torch.ones(1, dtype=torch.int64, device=device)
    seen: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {i: [] for i in codes}
    images = data.images[:MOST_IMAGES]
    for first in range(0, len(images), batch_size):
        x = to_float(torch.from_numpy(images[first : first + batch_size]).to(device), output_range)
        offset = torch.tensor([first], device=device)
        maps = draw_maps(jitter, len(x), seed, offset, STREAM_COPY, output_range=output_range)
        splits = [
            spec.split_q(discriminator(view)[1]) for view in (x, warp(x, maps, fill, output_range))
        ]
        for i in codes:
            seen[i].append(tuple(split[i].double().log_softmax(1).cpu() for split in splits))
    scores: dict[str, list[float]] = {name: [] for name in SCORES if name != "agreement"}
    categories = []
    for i in codes:
        log_q, log_copy = (torch.cat(part) for part in zip(*seen[i], strict=True))
        q, mean = log_q.exp(), log_q.exp().mean(0)
        entropy_of_mean = -(mean * mean.clamp_min(1e-300).log()).sum()
        scores["information"].append((entropy_of_mean + (q * log_q).sum(1).mean()).item())
        scores["confidence"].append(q.max(1).values.mean().item())
        scores["consistency"].append(-(q * (log_q - log_copy)).sum(1).mean().item())
        same = log_q.argmax(1) == log_copy.argmax(1)
        scores["steadiness"].append(same.double().mean().item())
        categories.append(log_q.argmax(1).numpy())
    return {name: float(np.mean(values)) for name, values in scores.items()}, np.stack(categories)


def agreement(categories: Mapping[int, np.ndarray]) -> dict[int, float]:
    """``agreement`` of each run with the others.

    Args:
        categories: seed -> int64 (codes, images), of the same images.

    Returns:
        Seed -> mean NMI, each code with its best partner; empty for fewer than two runs.
    """
    from sklearn.metrics import normalized_mutual_info_score

    if len(categories) < 2:
        return {}
    between: dict[tuple[int, int], float] = {}
    for a, ours in categories.items():
        for b, theirs in categories.items():
            if a < b or (a != b and (b, a) not in between):
                table = [[normalized_mutual_info_score(x, y) for y in theirs] for x in ours]
                between[a, b] = float(np.mean(np.max(table, axis=1)))
    return {
        a: float(np.mean([between.get((a, b), between.get((b, a))) for b in categories if b != a]))
        for a in categories
    }


def choose(scores: Mapping[int, Mapping[str, float]]) -> int | None:
    """The seed with the best score; of equals the first. None where nothing was scored."""
    scored = {seed: own[CHOSEN_BY] for seed, own in scores.items() if CHOSEN_BY in own}
    return max(scored, key=scored.get, default=None)


def rank_correlations(
    scores: Mapping[int, Mapping[str, float]], errors: Mapping[int, float]
) -> dict[str, float]:
    """Spearman's rank correlation of each score with the error over the seeds: -1 is best.

    A score that is the same for all seeds is left out; so are all where the error is, and with
    fewer than three seeds.
    """
    from scipy.stats import spearmanr

    found = {}
    for name in SCORES:
        seeds: Sequence[int] = [s for s in scores if name in scores[s] and s in errors]
        columns = [scores[s][name] for s in seeds], [errors[s] for s in seeds]
        if len(seeds) >= 3 and all(len(set(values)) > 1 for values in columns):
            found[name] = float(spearmanr(*columns).statistic)
    return found
