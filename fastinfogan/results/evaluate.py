"""Numbers on a trained model: information in the codes, and how categories match labels."""

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


def eval_device(*networks: nn.Module) -> torch.device:
    """The device of networks about to be looked at: they must be in eval mode.

    In training mode a picture would depend on the rest of its batch, and looking would change
    the running statistics of batchnorm.

    Raises:
        ValueError: a network isn't in eval mode.
    """
    if any(network.training for network in networks):
        raise ValueError("the networks must be in eval mode")
    parameter = next(networks[0].parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


@dataclass(frozen=True)
class CodeInformation:
    """How much Q reads of one regularised code off generated images, in nats."""

    name: str
    mi: float  # L_I = H(c) - NLL
    entropy: float  # H(c)
    best_mi: float  # the best reachable L_I
    # Continuous codes only:
    mi_fitted: float | None  # L_I with the one sigma that fits best: H - 0.5 log(2 pi e mse)
    correlation: float | None  # of the code and Q's mean; 0 if the mean is constant


@dataclass(frozen=True)
class Clustering:
    """How the K categories of one code, as Q sees them in real images, match the L labels."""

    code: str
    contingency: tuple[tuple[int, ...], ...]  # (K, L) images
    label_names: tuple[str, ...]  # (L,)
    hungarian: tuple[int | None, ...]  # category -> label, each label at most once
    majority: tuple[int | None, ...]  # category -> its most frequent label
    error_hungarian: float  # share of images whose category isn't matched to their label
    error_majority: float
    nmi: float  # normalised mutual information (arithmetic mean of the entropies)
    ari: float  # adjusted Rand index

    @property
    def category_to_label(self) -> tuple[str | None, ...]:
        """The Hungarian match by name; None for a category without one."""
        return tuple(None if i is None else self.label_names[i] for i in self.hungarian)


@dataclass(frozen=True)
class Evaluation:
    """What ``evaluate`` measured."""

    samples: int  # generated images behind ``codes``
    seed: int  # of their latents
    images: int  # real images behind ``clusterings``
    codes: tuple[CodeInformation, ...]  # regularised codes in order
    clusterings: tuple[Clustering, ...]  # regularised categorical codes; empty without labels

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
        data: real images; without labels nothing is clustered.
        output_range: what pixels 0 and 255 are to the networks.
        samples: generated images, samples 0, 1, ... of the stream that ``seed`` names.
        seed: of the latents; another one than the training's means codes it hasn't seen.
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
        clusterings=_clusterings(discriminator, spec, data, output_range, batch_size, device),
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


def _clusterings(
    discriminator: nn.Module,
    spec: LatentSpec,
    data: ImageData,
    output_range: tuple[float, float],
    batch_size: int,
    device: torch.device,
) -> tuple[Clustering, ...]:
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


def contingency_table(
    categories: np.ndarray, labels: np.ndarray, category_count: int, label_count: int
) -> np.ndarray:
    """How many images have each category and label: int64 (category_count, label_count)."""
    cells = np.bincount(categories * label_count + labels, minlength=category_count * label_count)
    return cells.reshape(category_count, label_count)


def cluster(code: str, contingency: np.ndarray, label_names: tuple[str, ...]) -> Clustering:
    """Match categories to labels.

    Hungarian: the one-to-one matching with the most images in matched pairs; with K != L some
    categories or labels stay without a partner, and their images are errors. A pair that shares
    no image is no match. Majority: each category takes its most frequent label, so labels may
    repeat; it never has more errors.

    Args:
        code: name of the code.
        contingency: (K, L) integers, at least one of them positive.
        label_names: (L,).
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    total = contingency.sum()
    hungarian: list[int | None] = [None] * len(contingency)
    for category, label in zip(*linear_sum_assignment(contingency, maximize=True), strict=True):
        if contingency[category, label] > 0:
            hungarian[category] = int(label)
    matched = sum(contingency[k, label] for k, label in enumerate(hungarian) if label is not None)
    rows, columns = (
        np.repeat(i.ravel(), contingency.ravel()) for i in np.indices(contingency.shape)
    )
    return Clustering(
        code=code,
        contingency=tuple(tuple(row) for row in contingency.tolist()),
        label_names=label_names,
        hungarian=tuple(hungarian),
        majority=tuple(int(row.argmax()) if row.any() else None for row in contingency),
        error_hungarian=float(1.0 - matched / total),
        error_majority=float(1.0 - contingency.max(axis=1).sum() / total),
        nmi=float(normalized_mutual_info_score(columns, rows)),
        ari=float(adjusted_rand_score(columns, rows)),
    )


def format_evaluation(evaluation: Evaluation) -> str:
    """The numbers as text for a terminal; the category -> label map is the best code's."""
    lines = [
        f"information on {evaluation.samples:,} generated images, in nats",
        f"  {'code':<12}{'L_I':>8}{'best':>8}{'H(c)':>8}{'fitted':>8}{'corr.':>8}",
    ]
    for code in evaluation.codes:
        line = f"  {code.name:<12}{code.mi:8.3f}{code.best_mi:8.3f}{code.entropy:8.3f}"
        if code.mi_fitted is not None:
            line += f"{code.mi_fitted:8.3f}{code.correlation:8.3f}"
        lines.append(line)
    totals = evaluation.totals
    lines.append(
        f"  {'total':<12}{totals['mi']:8.3f}{totals['best_mi']:8.3f}{totals['entropy']:8.3f}"
    )
    if any(code.mi_fitted is not None for code in evaluation.codes):
        lines.append(
            "  (best: the most that this form of Q reaches; fitted: L_I with the best sigma)"
        )
    best = evaluation.best
    if best is None:
        return "\n".join(lines)
    lines += [
        f"categories of {evaluation.images:,} real images against their labels",
        f"  {'code':<12}{'error, Hungarian':>18}{'error, majority':>18}{'NMI':>8}{'ARI':>8}",
    ]
    for c in evaluation.clusterings:
        lines.append(
            f"  {c.code:<12}{c.error_hungarian:18.2%}{c.error_majority:18.2%}"
            f"{c.nmi:8.3f}{c.ari:8.3f}"
        )
    lines.append(f"category -> label of {best.code} (Hungarian)")
    lines += _wrapped(
        f"{k} -> {'none' if name is None else name}"
        for k, name in enumerate(best.category_to_label)
    )
    return "\n".join(lines)


def _wrapped(items: Iterator[str], width: int = 80) -> list[str]:
    """Items in lines of at most ``width`` characters, never broken inside an item."""
    lines: list[str] = []
    for item in items:
        if lines and len(lines[-1]) + 3 + len(item) <= width:
            lines[-1] += f"   {item}"
        else:
            lines.append(f"  {item}")
    return lines


def _batches(total: int, size: int) -> Iterator[tuple[int, int]]:
    for offset in range(0, total, size):
        yield offset, min(size, total - offset)
