"""Do a study's images suffer? Fréchet distances and slants, beside another study's.

    python -m bench.fidelity studies/paper studies/ours

The first is what the others are compared with. For every finished run, 10,000 generated images
against as many real ones of the test split (all, if there are fewer):

    distance   Fréchet distance of Gaussians fitted to 64 features of a small classifier, which is
               trained here on the training split's labels (Heusel et al. 2017, eq. 6, with other
               features: a number to compare runs by, not anyone's FID)
    slant      mean and standard deviation of the shear that would bring an image's principal axis
               upright, and the Wasserstein distance of its distribution from the real one's:
               training on changed images must not leak into what G makes

"real" is the training split's images against the test split's: what a perfect generator would get.
Writes bench/results/fidelity-NAME-DEVICE.json and slants.png beside the last study.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench import machine
from bench.harness import RESULTS
from fastinfogan.data import ImageData, find_dataset
from fastinfogan.device import pick_device
from fastinfogan.errors import UserError
from fastinfogan.files import atomic_write
from fastinfogan.kernels.gather import to_float
from fastinfogan.results.run import images_of, open_generator
from fastinfogan.study.folder import Study, read_study

COUNT, FEATURES, STEPS, BATCH = 10_000, 64, 1_500, 128
_SEED = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write. Exit code 2 if a study can't be read."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.fidelity", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("studies", type=Path, nargs="+", metavar="STUDY")
    parser.add_argument("--count", type=int, default=COUNT, help="images of each run")
    options = parser.parse_args(arguments)
    try:
        studies = [read_study(folder) for folder in options.studies]
        content = compare(studies, options.count)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    last = studies[-1].folder
    content = {"on": machine.describe(pick_device("cpu")), **content}
    path = RESULTS / f"fidelity-{last.name}-{machine.slug(content['on']['hardware'])}.json"
    atomic_write(path, (json.dumps(content, indent=1) + "\n").encode())
    print(path)
    return 0


def compare(studies: Sequence[Study], count: int) -> dict[str, Any]:
    """What is found of each study's finished runs, and the picture of their slants.

    Raises:
        UserError: a study has no finished run, or images without labels.
    """
    config = studies[0].config
    test = images_of(config, "test")
    split = find_dataset(config.data.dataset).has_test_split
    train = images_of(config, "train") if split else test
    if train.labels is None:
        raise UserError(f"--dataset {config.data.dataset}: has no labels to train features on")
    network, accuracy = train_classifier(train, test)
    print(f"classifier: {100 * accuracy:.2f}% of the test images right")
    random = np.random.default_rng(_SEED)  # data sets may be sorted by label
    real = as_floats(test.images[random.permutation(len(test))[:count]])
    shuffled = random.permutation(len(train))[:count]
    truth = features_of(network, real)
    real_slants = slants(real)
    perfect = as_floats(train.images[shuffled])
    found: dict[str, Any] = {
        "classifier_accuracy": accuracy,
        "real": numbers(truth, real_slants, features_of(network, perfect), slants(perfect)),
        "studies": {},
    }
    print(line("real", found["real"]))
    drawn: dict[str, np.ndarray] = {"real": real_slants}
    for study in studies:
        seeds = [seed for seed in study.seeds if study.summary(seed) is not None]
        if not seeds:
            raise UserError(f"{study.folder}: no finished run in it")
        rows, parts = {}, []
        for seed in seeds:
            generator = open_generator(study.run_folder(seed))
            images = as_floats(generator.sample(count, seed=1))
            parts.append(slants(images))
            rows[str(seed)] = numbers(truth, real_slants, features_of(network, images), parts[-1])
            print(line(f"{study.folder.name}, seed {seed}", rows[str(seed)]))
        drawn[study.folder.name] = np.concatenate(parts)
        means = {k: statistics.fmean(row[k] for row in rows.values()) for k in rows[str(seeds[0])]}
        first = next(iter(found["studies"].values()), {"mean": means})["mean"]
        ratio = means["distance"] / first["distance"]
        found["studies"][study.folder.name] = {"mean": means, "ratio": ratio, "seeds": rows}
        print(line(f"{study.folder.name}, mean of {len(seeds)}", means), f" {ratio:.2f} x")
    picture = studies[-1].folder / "slants.png"
    plot_slants(drawn, picture)
    print(picture)
    return found


def numbers(truth: Tensor, real_slants: np.ndarray, features: Tensor, slant: np.ndarray) -> dict:
    """What is said of one set of images."""
    from scipy.stats import wasserstein_distance

    return {
        "distance": frechet(truth, features),
        "slant": float(slant.mean()),
        "slant_std": float(slant.std()),
        "slant_off": float(wasserstein_distance(real_slants, slant)),
    }


def line(name: str, row: dict[str, float]) -> str:
    """A row of numbers as it is printed."""
    return (
        f"{name:<28} distance {row['distance']:8.3f}   slant {row['slant']:+.3f} "
        f"± {row['slant_std']:.3f}, off by {row['slant_off']:.3f}"
    )


def as_floats(images: np.ndarray) -> Tensor:
    """uint8 (N, H, W, C) -> float32 (N, C, H, W) in [0, 1]."""
    return to_float(torch.from_numpy(images.copy()), (0.0, 1.0))


class Classifier(nn.Module):
    """Two convolutions, 64 features, one logit per label."""

    def __init__(self, shape: tuple[int, int, int], labels: int) -> None:
        super().__init__()
        channels, height, width = shape
        self.body = nn.Sequential(
            nn.Conv2d(channels, 32, 4, 2, 1), nn.ReLU(),
            nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU(), nn.Flatten(),
            nn.Linear(64 * (height // 4) * (width // 4), FEATURES), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(FEATURES, labels)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))


def train_classifier(train: ImageData, test: ImageData) -> tuple[Classifier, float]:
    """A classifier of the training images, and its accuracy on the test images."""
    torch.manual_seed(_SEED)
    network = Classifier(train.image_shape, int(train.labels.max()) + 1)
    adam = torch.optim.Adam(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, 4e-3, total_steps=STEPS)
    random = np.random.default_rng(_SEED)
    for _ in range(STEPS):
        rows = random.choice(len(train), min(BATCH, len(train)), replace=False)
        logits = network(as_floats(train.images[rows]))
        loss = F.cross_entropy(logits, torch.from_numpy(train.labels[rows]).long())
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
    with torch.no_grad():
        guesses = torch.cat([network(as_floats(x)).argmax(1) for x in _parts(test.images)])
    right = guesses == torch.from_numpy(test.labels[: len(guesses)])
    return network.eval(), float(right.double().mean())


@torch.no_grad()
def features_of(network: Classifier, images: Tensor) -> Tensor:
    """float64 (N, FEATURES)."""
    return torch.cat([network.body(part) for part in images.split(1000)]).double()


def frechet(a: Tensor, b: Tensor) -> float:
    """|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)) of Gaussians fitted to two sets of rows."""
    means, covariances = [x.mean(0) for x in (a, b)], [torch.cov(x.T) for x in (a, b)]
    values, vectors = torch.linalg.eigh(covariances[0])
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    # S_a S_b has the eigenvalues of the symmetric root(S_a) S_b root(S_a).
    between = torch.linalg.eigvalsh(root @ covariances[1] @ root).clamp_min(0).sqrt().sum()
    traces = sum(covariance.trace() for covariance in covariances)
    return float((means[0] - means[1]).square().sum() + traces - 2 * between)


def slants(images: Tensor) -> np.ndarray:
    """Shear of each image, m_xy / m_yy of its brightness: 0 is upright.

    Args:
        images: (N, C, H, W), bright on dark.
    """
    weight = images.mean(1).double()
    weight = weight / weight.sum((1, 2), keepdim=True).clamp_min(1e-12)
    y = torch.arange(weight.shape[1], dtype=torch.float64).view(1, -1, 1)
    x = torch.arange(weight.shape[2], dtype=torch.float64).view(1, 1, -1)
    y, x = (axis - (axis * weight).sum((1, 2), keepdim=True) for axis in (y, x))
    m_xy, m_yy = (weight * x * y).sum((1, 2)), (weight * y * y).sum((1, 2))
    return (-m_xy / m_yy.clamp_min(1e-12)).numpy()  # rows grow downwards: leaning right is positive


def plot_slants(drawn: dict[str, np.ndarray], path: Path) -> None:
    """Each distribution of slants as a line, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    edges = np.linspace(-1.2, 1.2, 61)
    for name, values in drawn.items():
        style = {"color": "black", "linewidth": 2} if name == "real" else {"linewidth": 1.3}
        height, _ = np.histogram(values, edges, density=True)
        axes.plot((edges[1:] + edges[:-1]) / 2, height, label=name, **style)
    axes.set(xlabel="slant (shear of the principal axis)", ylabel="density")
    axes.set_ylim(bottom=0)
    axes.legend(edgecolor="none")
    axes.spines[["top", "right"]].set_visible(False)
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    atomic_write(path, buffer.getvalue())


def _parts(images: np.ndarray) -> list[np.ndarray]:
    return [images[first : first + 1000] for first in range(0, len(images), 1000)]


if __name__ == "__main__":
    sys.exit(main())
