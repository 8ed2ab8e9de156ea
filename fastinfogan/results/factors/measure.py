"""All scores of disentanglement of a trained Q, on a dataset whose factors are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import nn

from fastinfogan.data import ImageData
from fastinfogan.data.factors import Factor
from fastinfogan.data.progress import ProgressReport
from fastinfogan.model.latent_spec import LatentSpec
from fastinfogan.ranks.alone import Ranks
from fastinfogan.results.factors import dci, information, protocol, sap
from fastinfogan.results.factors.codes import Codes, read_codes
from fastinfogan.results.factors.correlation import FactorCorrelation, best_correlations
from fastinfogan.results.factors.explicitness import explicitness
from fastinfogan.results.factors.fixed import Shared, beta_vae, factor_vae, variances, voters
from fastinfogan.results.factors.protocol import LEAST_STD
from fastinfogan.tell import on_stderr

# Each score's name in files, and for people.
SCORES = {
    "mig": "MIG",
    "dci_disentanglement": "DCI disentanglement",
    "dci_completeness": "DCI completeness",
    "dci_informativeness": "DCI informativeness",
    "sap": "SAP",
    "factor_vae": "FactorVAE score",
    "beta_vae": "beta-VAE score",
    "modularity": "modularity",
    "explicitness": "explicitness",
}
_OF_TWO_CODES = ("mig", "dci_completeness", "sap")
_OF_TWO_FACTORS = ("dci_disentanglement", "factor_vae", "beta_vae", "modularity")


@dataclass(frozen=True)
class Disentanglement:
    """How far each code stands for one known factor.

    Attributes:
        points: images that were learned from.
        test_points: others, that were tested on.
        seed: of their choice, and of the votes.
        protocol: how it was measured, in words.
        codes: (D,), the names of the regularised codes.
        factors: (F,), the names of the factors that vary.
        information: (D, F), mutual information of code and factor, in nats.
        entropies: (F,), of the factors, in nats.
        scores: by the names in ``SCORES``, all from 0 (worst) to 1; None: it can't be given.
        correlations: one for each factor that has an order or goes round.
        notes: what was left out or can't be given, and why, in lines.
    """

    points: int
    test_points: int
    seed: int
    protocol: str
    codes: tuple[str, ...]
    factors: tuple[str, ...]
    information: tuple[tuple[float, ...], ...]
    entropies: tuple[float, ...]
    scores: dict[str, float | None]
    correlations: tuple[FactorCorrelation, ...]
    notes: tuple[str, ...]


def read_factors(
    discriminator: nn.Module,
    spec: LatentSpec,
    data: ImageData,
    output_range: tuple[float, float],
    batch_size: int,
    seed: int,
    ranks: Ranks,
) -> tuple[Codes, np.ndarray] | None:
    """Have Q read real images whose factors are known.

    Args:
        discriminator: in eval mode.
        spec: of its codes.
        data: real images, of which 15,000 are drawn if there are more.
        output_range: what pixels 0 and 255 are to the network.
        batch_size: images at a time.
        seed: of what is drawn.
        ranks: who read them together.

    Returns:
        The codes, and the factors of the same images; None if the dataset has no factors, or no
        code is regularised.
    """
    if data.factors is None or not spec.regularized:
        return None
    rows = protocol.drawn(len(data), seed)
    with ProgressReport("reading images", len(rows), True, on_stderr) as progress:
        codes = read_codes(
            discriminator, spec, data.images, rows, output_range, batch_size, progress.update,
            ranks,
        )  # fmt: skip
    return codes, data.factors[rows]


def measure(
    codes: Codes, factors: np.ndarray, rows: Sequence[Factor], seed: int = 0
) -> Disentanglement:
    """Compare codes with factors.

    Args:
        codes: of N images in random order, of which the first part is learned from.
        factors: int64 (N, F), of the same images.
        rows: (F,), what they are.
        seed: of the votes.
    """
    learned, tested = protocol.split(len(codes))
    notes = []
    if learned + tested < protocol.POINTS + protocol.TEST_POINTS:
        notes.append(
            f"the protocol asks for {protocol.POINTS:,} images to learn from and "
            f"{protocol.TEST_POINTS:,} to test on; there are {learned:,} and {tested:,}"
        )
    train = slice(learned)
    varies = (factors[train] != factors[:1]).any(axis=0)
    if not varies.all():
        notes.append(f"constant, left out: {_listed(rows, ~varies)}")
    factors = factors[:, varies]
    rows = [row for row, kept in zip(rows, varies, strict=True) if kept]
    moving = codes.part(train).varies()
    if not moving.all():
        still = [name for name, moves in zip(codes.names, moving, strict=True) if not moves]
        notes.append(f"the same for all images: {', '.join(still)}")
    table = information.mutual_information(codes.part(train).bins(), factors[train])
    entropy = information.entropies(factors[train])
    scores: dict[str, float | None]
    correlations: tuple[FactorCorrelation, ...] = ()
    if len(codes) < protocol.FEWEST:
        scores = dict.fromkeys(SCORES)
        notes.append(f"no scores: {len(codes)} images are too few; {protocol.FEWEST} work")
    elif not len(rows) or not moving.any():
        scores = dict.fromkeys(SCORES, 0.0)
        notes.append(f"all scores are 0: no {'code' if len(rows) else 'factor'} varies")
    else:
        scores = _scores(codes, factors, rows, table, entropy, seed, notes)
        correlations = best_correlations(codes.part(train), factors[train], rows)
    return Disentanglement(
        points=learned,
        test_points=tested,
        seed=seed,
        protocol=protocol.DESCRIPTION,
        codes=codes.names,
        factors=tuple(row.name for row in rows),
        information=tuple(tuple(row) for row in table.tolist()),
        entropies=tuple(entropy.tolist()),
        scores=scores,
        correlations=correlations,
        notes=tuple(notes),
    )


def _scores(
    codes: Codes,
    factors: np.ndarray,
    rows: Sequence[Factor],
    table: np.ndarray,
    entropy: np.ndarray,
    seed: int,
    notes: list[str],
) -> dict[str, float | None]:
    """The scores, of one factor and one code that vary at least."""
    scores: dict[str, float | None] = dict.fromkeys(SCORES)
    several_codes, several_factors = len(codes.names) > 1, len(rows) > 1
    if not several_codes:
        notes.append(f"there is one code, and it takes two for {_named(_OF_TWO_CODES)}")
    if not several_factors:
        notes.append(f"one factor varies, and it takes two for {_named(_OF_TWO_FACTORS)}")
    if several_codes:
        scores["mig"] = information.mig(table, entropy)
    if several_factors:
        scores["modularity"] = information.modularity(table)
        scores |= _votes(codes, factors, rows, seed, notes)

    few = np.array([len(np.unique(values)) <= protocol.MOST_VALUES for values in factors.T])
    if not few.all():
        notes.append(
            f"more than {protocol.MOST_VALUES} values, left out of DCI, SAP and explicitness: "
            f"{_listed(rows, ~few)}"
        )
    if not few.any():
        return scores
    told = factors[:, few]
    learned, tested = protocol.split(len(codes))
    train, test = slice(learned), slice(learned, learned + tested)
    with ProgressReport("measuring disentanglement", 3 * told.shape[1], True, on_stderr) as report:
        parts = codes.part(train), told[train], codes.part(test), told[test]
        done = partial(report.update, 1)
        importance, right = dci.importances(*parts, done)
        scores["dci_informativeness"] = float(right.mean())
        if told.shape[1] > 1:
            scores["dci_disentanglement"] = dci.disentanglement(importance)
        if several_codes:
            scores["dci_completeness"] = dci.completeness(importance)
            scores["sap"] = sap.sap(sap.accuracies(*parts, done))
        scores["explicitness"] = explicitness(*parts, done)
    return scores


def _votes(
    codes: Codes, factors: np.ndarray, rows: Sequence[Factor], seed: int, notes: list[str]
) -> dict[str, float]:
    """The scores from images that share a value, where two factors or more have such images."""
    shared = [Shared(values) for values in factors.T]
    without = np.array([not images for images in shared])
    if without.any():
        notes.append(
            "no two images share a value, left out of FactorVAE and beta-VAE score: "
            f"{_listed(rows, without)}"
        )
    usable = [images for images in shared if images]
    if len(usable) < 2:
        return {}
    if not len(voters(variances(codes))):
        notes.append(f"no code's deviation reaches {LEAST_STD}: the FactorVAE score is 0")
    return {
        "factor_vae": factor_vae(codes, usable, np.random.default_rng(seed)),
        "beta_vae": beta_vae(codes, usable, np.random.default_rng(seed)),
    }


def _listed(rows: Sequence[Factor], which: np.ndarray) -> str:
    return ", ".join(row.name for row, listed in zip(rows, which, strict=True) if listed)


def _named(scores: Sequence[str]) -> str:
    return ", ".join(SCORES[name] for name in scores)
