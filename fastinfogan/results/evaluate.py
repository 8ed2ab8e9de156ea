"""Measure a trained model: its codes' information, and how they match labels and factors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastinfogan.data import ImageData
from fastinfogan.kernels.codes import HALF_LOG_TWO_PI, Code
from fastinfogan.kernels.gather import to_float
from fastinfogan.kernels.mi_loss import mi_loss_reference
from fastinfogan.model.latent_spec import LatentSpec
from fastinfogan.results.clustering import Clustering, cluster, contingency_table
from fastinfogan.results.eval_mode import eval_device
from fastinfogan.results.factors.measure import Disentanglement, disentanglement


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


@torch.no_grad()
def evaluate(
    generator: nn.Module,
    discriminator: nn.Module,
    spec: LatentSpec,
    data: ImageData,
    *,
    output_range: tuple[float, float],
    samples: int = 10_000,
    seed: int = 1,
    batch_size: int = 500,
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
        batch_size: images at a time; the numbers don't depend on it.

    Raises:
        ValueError: a network isn't in eval mode.
    """
    device = eval_device(generator, discriminator)
    return Evaluation(
        samples=samples,
        seed=seed,
        images=len(data),
        codes=_information(generator, discriminator, spec, samples, seed, batch_size, device),
        clusterings=clusterings(discriminator, spec, data, output_range, batch_size),
        disentanglement=disentanglement(discriminator, spec, data, output_range, batch_size, seed),
    )


def _information(
    generator: nn.Module,
    discriminator: nn.Module,
    spec: LatentSpec,
    samples: int,
    seed: int,
    batch_size: int,
    device: torch.device,
) -> tuple[CodeInformation, ...]:
    nll = torch.zeros(len(spec.codes), dtype=torch.float64)
    drawn, means = [], []
    for offset, count in _batches(samples, batch_size):
        latents = spec.sample(count, seed, offset, device)
        _, q_params = discriminator(generator(spec.assemble(*latents)))
        nlls = mi_loss_reference(q_params, latents.values, spec.codes, [0.0] * len(spec.codes))[1]
        nll += nlls.cpu().double() * (count / samples)
        drawn.append(latents.values.cpu().double())
        means.append({i: out[:, 0].cpu().double() for i, out in spec.split_q(q_params).items()})
    values = torch.cat(drawn)
    result = []
    for i in spec.regularized:
        code, fitted, correlation = spec.codes[i], None, None
        if not code.is_discrete:
            mean = torch.cat([batch[i] for batch in means])
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


@torch.no_grad()
def clusterings(
    discriminator: nn.Module,
    spec: LatentSpec,
    data: ImageData,
    output_range: tuple[float, float],
    batch_size: int = 500,
) -> tuple[Clustering, ...]:
    """How the categories of each regularised categorical code match the labels.

    Args:
        discriminator, spec, data, output_range, batch_size: as ``evaluate``'s.

    Returns:
        One for each code, in order; none without labels.

    Raises:
        ValueError: the network isn't in eval mode.
    """
    device = eval_device(discriminator)
    codes = [i for i in spec.regularized if spec.codes[i].has_categories]
    if data.labels is None or not codes:
        return ()
    seen: dict[int, list[np.ndarray]] = {i: [] for i in codes}
    for offset, count in _batches(len(data), batch_size):
        pixels = torch.from_numpy(data.images[offset : offset + count]).to(device)
        split = spec.split_q(discriminator(to_float(pixels, output_range))[1])
        for i in codes:
            seen[i].append(split[i].argmax(dim=1).cpu().numpy())
    names = data.label_names or tuple(str(i) for i in range(int(data.labels.max()) + 1))
    return tuple(
        cluster(
            spec.names[i],
            contingency_table(
                np.concatenate(seen[i]), data.labels, spec.codes[i].categories, len(names)
            ),
            names,
        )
        for i in codes
    )


def matches(
    discriminator: nn.Module,
    spec: LatentSpec,
    data: ImageData,
    output_range: tuple[float, float],
) -> dict[str, dict[str, float]]:
    """Name of a categorical code -> how its categories match the labels, for a row of metrics.

    Args:
        discriminator, spec, data, output_range: as ``evaluate``'s.
    """
    found = clusterings(discriminator, spec, data, output_range)
    numbers = ("error_hungarian", "error_majority", "nmi", "ari")
    return {c.code: {name: getattr(c, name) for name in numbers} for c in found}


def _batches(total: int, size: int) -> Iterator[tuple[int, int]]:
    for offset in range(0, total, size):
        yield offset, min(size, total - offset)
