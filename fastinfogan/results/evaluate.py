"""Measure a trained model: its codes' information, and how they match labels and factors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fastinfogan.data import ImageData
from fastinfogan.kernels.codes import HALF_LOG_TWO_PI, Code
from fastinfogan.kernels.mi_loss import mi_loss_reference
from fastinfogan.model.latent_spec import LatentSpec
from fastinfogan.ranks.alone import ALONE, Ranks
from fastinfogan.results.clustering import Clustering, cluster, contingency_table
from fastinfogan.results.eval_mode import eval_device
from fastinfogan.results.factors import protocol
from fastinfogan.results.factors.brief import measure_briefly
from fastinfogan.results.factors.codes import Codes, read_codes
from fastinfogan.results.factors.measure import Disentanglement, measure, read_factors
from fastinfogan.results.shares import in_batches

SEED = 1  # of latents, and of the choice of real images where factors are known
AT_A_TIME = 500  # images; by how many, rounding in a library may differ


@dataclass(frozen=True)
class CodeInformation:
    """How much of one regularised code Q reads off generated images.

    Attributes:
        name: of the code.
        mi: L_I = H(c) - NLL (paper, Equation 5), in nats, like the next three.
        entropy: H(c).
        best_mi: the highest L_I that Q's form can reach.
        mi_fitted: continuous codes only: L_I with the one sigma that fits best,
            H(c) - 0.5 log(2 pi e mse).
        correlation: continuous codes only: of the code and Q's mean; 0 if the mean is constant.
    """

    name: str
    mi: float
    entropy: float
    best_mi: float
    mi_fitted: float | None
    correlation: float | None


@dataclass(frozen=True)
class Evaluation:
    """What ``evaluate`` measured.

    Attributes:
        samples: generated images behind ``codes``.
        seed: of their latents.
        images: real images behind ``clusterings``.
        images_of: how many there are in all, where ``images`` are a sample of them.
        codes: one for each regularised code, in order.
        clusterings: one for each regularised categorical code; empty without labels.
        disentanglement: None without known factors.
    """

    samples: int
    seed: int
    images: int
    codes: tuple[CodeInformation, ...]
    clusterings: tuple[Clustering, ...]
    disentanglement: Disentanglement | None
    images_of: int | None = None

    @property
    def real_images(self) -> str:
        """How many real images there were, in words."""
        sample = "" if self.images_of is None else f", a sample of {self.images_of:,}"
        return f"{self.images:,} real images{sample}"

    @property
    def best(self) -> Clustering | None:
        """The code that fits the labels best: the lowest Hungarian error."""
        return min(self.clusterings, key=lambda c: c.error_hungarian, default=None)

    @property
    def code_to_label(self) -> dict[str, tuple[str | None, ...]]:
        """The best code's name -> its categories' labels; empty if no labels are known."""
        return {} if self.best is None else {self.best.code: self.best.category_to_label}

    @property
    def totals(self) -> dict[str, float]:
        """``mi``, ``entropy`` and ``best_mi`` over all regularised codes, in nats."""
        keys = ("mi", "entropy", "best_mi")
        return {key: sum(getattr(code, key) for code in self.codes) for key in keys}

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {**asdict(self), "totals": self.totals, "code_to_label": self.code_to_label}


def evaluate(
    generator: nn.Module,
    discriminator: nn.Module,
    spec: LatentSpec,
    data: ImageData,
    *,
    output_range: tuple[float, float],
    samples: int = 10_000,
    seed: int = SEED,
    batch_size: int = AT_A_TIME,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Measure a trained model.

    Args:
        generator: latents (B, spec.input_width) -> images (B, C, H, W) in ``output_range``.
        discriminator: images -> (D's logits (B,), Q's output (B, spec.q_width)).
        spec: the latent specification of both.
        data: real images; without labels nothing is clustered, and without factors codes aren't
            compared with them.
        output_range: what pixels 0 and 255 are to the networks.
        samples: generated images, samples 0, 1, ... of the stream that ``seed`` names.
        seed: of the latents; with another seed than the training's, they are new to the networks.
            Also of the choice of real images, where factors are known.
        batch_size: images at a time; the numbers don't depend on it, but for rounding.
        ranks: who look at the images together, with the same networks; all of them call this, the
            first computes the numbers, and each returns them.

    Raises:
        ValueError: a network isn't in eval mode.
    """
    said = _said(generator, discriminator, spec, samples, seed, batch_size, ranks)
    codes = _labelled(discriminator, spec, data, output_range, batch_size, ranks)
    known = read_factors(discriminator, spec, data, output_range, batch_size, seed, ranks)
    return ranks.first(
        lambda: Evaluation(
            samples=samples,
            seed=seed,
            images=len(data),
            images_of=data.total if len(data) < data.total else None,
            codes=_information(spec, said, samples),
            clusterings=_clusterings(spec, data, codes),
            disentanglement=None if known is None else measure(*known, data.factor_rows, seed),
        )
    )


class _Said(NamedTuple):
    """What Q says of a batch of B generated images, on the CPU in float64.

    Attributes:
        nll: (codes,), the batch's mean for each.
        values: (B, codes), that the images were made from.
        means: the code's number -> (B,), the first of its outputs: of a continuous code the mean.
    """

    nll: Tensor
    values: Tensor
    means: dict[int, Tensor]


@torch.no_grad()
def _said(
    generator: nn.Module,
    discriminator: nn.Module,
    spec: LatentSpec,
    samples: int,
    seed: int,
    batch_size: int,
    ranks: Ranks,
) -> list[_Said]:
    device = eval_device(generator, discriminator)

    def say(offset: int, count: int) -> _Said:
        latents = spec.sample(count, seed, offset, device)
        _, q_params = discriminator(generator(spec.assemble(*latents)))
        nlls = mi_loss_reference(q_params, latents.values, spec.codes, [0.0] * len(spec.codes))[1]
        means = {i: out[:, 0].cpu().double() for i, out in spec.split_q(q_params).items()}
        return _Said(nlls.cpu().double(), latents.values.cpu().double(), means)

    return in_batches(samples, batch_size, say, ranks)


def _information(
    spec: LatentSpec, said: Sequence[_Said], samples: int
) -> tuple[CodeInformation, ...]:
    nll = torch.zeros(len(spec.codes), dtype=torch.float64)
    for batch in said:
        nll += batch.nll * (len(batch.values) / samples)
    values = torch.cat([batch.values for batch in said])
    result = []
    for i in spec.regularized:
        code, fitted, correlation = spec.codes[i], None, None
        if not code.is_discrete:
            mean = torch.cat([batch.means[i] for batch in said])
            fitted, correlation = _fit(code, values[:, i], mean)
        result.append(
            CodeInformation(
                name=spec.names[i],
                mi=code.entropy - nll[i].item(),
                entropy=code.entropy,
                best_mi=code.best_mi,
                mi_fitted=fitted,
                correlation=correlation,
            )
        )
    return tuple(result)


def _fit(code: Code, value: Tensor, mean: Tensor) -> tuple[float, float]:
    """``mi_fitted`` and ``correlation`` of a continuous code."""
    # Codes are float32: an error below their resolution is none, and its logarithm means nothing.
    mse = max((value - mean).square().mean().item(), torch.finfo(torch.float32).eps ** 2)
    fitted = code.entropy - HALF_LOG_TWO_PI - 0.5 - 0.5 * math.log(mse)
    if mean.min() == mean.max():
        return fitted, 0.0
    return fitted, torch.corrcoef(torch.stack([value, mean]))[0, 1].item()


def evaluate_briefly(
    discriminator: nn.Module,
    spec: LatentSpec,
    data: ImageData,
    output_range: tuple[float, float],
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """What a row of metrics has of an evaluation. No other random numbers are touched.

    Args:
        discriminator, spec, data, output_range, ranks: as ``evaluate``'s.

    Returns:
        ``evaluation``, where labels are known: name of a categorical code -> how its categories
        match them. ``disentanglement``, where factors are known: ``measure_briefly``'s, of the
        images that ``evaluate``, unless it is given another seed, learns from: 10,000 at most.

    Raises:
        ValueError: the network isn't in eval mode.
    """
    codes = _labelled(discriminator, spec, data, output_range, AT_A_TIME, ranks)
    known = None
    if data.factors is not None:
        rows = protocol.drawn(len(data), SEED)[: protocol.split(len(data))[0]]
        if codes is not None:  # they have all been read
            known = codes.part(rows)
        else:
            known = read_codes(
                discriminator, spec, data.images, rows, output_range, AT_A_TIME, ranks=ranks
            )
    numbers = ("error_hungarian", "error_majority", "nmi", "ari")

    def row() -> dict[str, Any]:
        found: dict[str, Any] = {}
        if data.labels is not None:
            found["evaluation"] = {
                one.code: {name: getattr(one, name) for name in numbers}
                for one in _clusterings(spec, data, codes)
            }
        if known is not None:
            factors = data.factors[rows]
            found["disentanglement"] = measure_briefly(known, factors, data.factor_rows, SEED)
        return found

    return ranks.first(row)


def _labelled(
    discriminator: nn.Module,
    spec: LatentSpec,
    data: ImageData,
    output_range: tuple[float, float],
    batch_size: int,
    ranks: Ranks,
) -> Codes | None:
    """Q's codes of all images; None without labels or categories to match with them."""
    if data.labels is None or not any(spec.codes[i].has_categories for i in spec.regularized):
        return None
    rows = np.arange(len(data))
    return read_codes(discriminator, spec, data.images, rows, output_range, batch_size, ranks=ranks)


def _clusterings(spec: LatentSpec, data: ImageData, codes: Codes | None) -> tuple[Clustering, ...]:
    """How the categories of each regularised categorical code match the labels."""
    if codes is None:
        return ()
    names = data.label_names or tuple(str(i) for i in range(int(data.labels.max()) + 1))
    return tuple(
        cluster(
            spec.names[i],
            contingency_table(
                column.astype(np.int64), data.labels, spec.codes[i].categories, len(names)
            ),
            names,
        )
        for i, column in zip(spec.regularized, codes.values.T, strict=True)
        if spec.codes[i].has_categories
    )
