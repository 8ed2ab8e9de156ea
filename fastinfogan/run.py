"""A run directory: what is in it, how it is read back, and what a finished run leaves behind.

config.json            the resolved configuration (TrainConfig)
metrics.jsonl          one row per log line: losses, L_I, images/s
checkpoints/           the two newest (checkpoint.py)
pictures/              samples and traversals at intervals
samples.png, traversal_*.png, curves.png, generator.safetensors, summary.json   at the end
"""

from __future__ import annotations

import json
import platform
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from fastinfogan.checkpoint import atomic_write, load_newest, load_weights
from fastinfogan.config import TrainConfig, from_dict
from fastinfogan.data import ImageData, load_images
from fastinfogan.errors import UserError
from fastinfogan.evaluate import Evaluation, evaluate
from fastinfogan.export import TrainedGenerator, export_generator
from fastinfogan.metrics import read_metrics
from fastinfogan.networks import Discriminator, Generator
from fastinfogan.visual import plot_curves


class Run:
    """A trained, or half-trained, model and the directory it lives in.

    Attributes:
        folder: the run directory.
        config: the resolved configuration.
        generator, discriminator: the networks after ``iteration`` iterations.
        interrupted: the signal that ended training early, if one did.
    """

    def __init__(
        self,
        folder: Path,
        config: TrainConfig,
        generator: nn.Module,
        discriminator: nn.Module,
        iteration: int = 0,
    ) -> None:
        self.folder, self.config, self.iteration = folder, config, iteration
        self.generator, self.discriminator = generator, discriminator
        self.interrupted: signal.Signals | None = None

    def evaluate(self, data: ImageData | None = None, samples: int = 10_000) -> Evaluation:
        """L_I per code on generated images; clustering errors where the real ones have labels.

        Args:
            data: real images (default: the dataset's test split).
            samples: how many images to generate.
        """
        c = self.config.data
        if data is None:
            data = load_images(c.dataset, c.data_dir, "test", c.image_size, c.channels)
        if data.image_shape != self.config.architecture.image_shape:
            raise UserError(
                f"--dataset {data.name}: its images are {data.image_shape}, this run's networks "
                f"read {self.config.architecture.image_shape}"
            )
        with _evaluating(self.generator, self.discriminator):
            return evaluate(
                self.generator,
                self.discriminator,
                self.config.spec,
                data,
                output_range=self.config.architecture.output_range,
                samples=samples,
            )

    def export(self, path: Path | str | None = None, evaluation: Evaluation | None = None) -> Path:
        """Write the generator as a file that any program can load (docs/generator-format.md).

        Args:
            path: default generator.safetensors in the run directory.
            evaluation: where the labels of the categories come from; None leaves them out.
        """
        path = self.folder / "generator.safetensors" if path is None else Path(path)
        labels = None if evaluation is None else evaluation.code_to_label
        export_generator(
            path, self.generator, self.config, iteration=self.iteration, code_to_label=labels
        )
        return path

    def save_pictures(
        self, folder: Path, suffix: str = "", evaluation: Evaluation | None = None
    ) -> None:
        """Write a grid of samples and a traversal of every code as PNG into ``folder``."""
        with _evaluating(self.generator):
            TrainedGenerator(
                generator=self.generator,
                spec=self.config.spec,
                output_range=self.config.architecture.output_range,
                code_to_label={} if evaluation is None else evaluation.code_to_label,
            ).save_pictures(folder, suffix)

    def finish(self, data: ImageData, seconds: float, device: str) -> Evaluation:
        """Leave behind what a finished run should: numbers, pictures, the generator."""
        evaluation = self.evaluate(data)
        self.export(evaluation=evaluation)
        self.save_pictures(self.folder, evaluation=evaluation)
        metrics = read_metrics(self.folder / "metrics.jsonl")
        plot_curves(metrics, self.config.spec, self.folder / "curves.png")
        summary = {
            "iterations": self.iteration,
            "seconds": round(seconds, 1),
            "last_metrics": metrics[-1],
            "evaluation": evaluation.to_dict(),
            "config_sha256": self.config.fingerprint(),
            "device": device,
            "versions": {
                "fastinfogan": version("fastinfogan"),
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }
        atomic_write(self.folder / "summary.json", json.dumps(summary, indent=2).encode())
        return evaluation


def load_run(folder: Path | str, device: torch.device | str = "cpu") -> Run:
    """Read a run back from its newest usable checkpoint.

    Raises:
        UserError: there's no run, or no usable checkpoint in it.
    """
    folder = Path(folder)
    config = read_config(folder)
    state, progress, _ = load_newest(folder / "checkpoints")
    spec, architecture = config.spec, config.architecture
    generator = Generator(architecture, spec)
    discriminator = Discriminator(architecture, spec, config.model.separate_q)
    load_weights(generator, state, "generator.")
    load_weights(discriminator, state, "discriminator.")
    return Run(folder, config, generator.to(device), discriminator.to(device), progress.iteration)


def finished_at(folder: Path) -> int | None:
    """The iteration at which a run was finished last, if it was."""
    try:
        return json.loads((folder / "summary.json").read_text())["iterations"]
    except (OSError, ValueError, KeyError):
        return None


def read_config(folder: Path) -> TrainConfig:
    """The configuration that a run directory was made with."""
    path = folder / "config.json"
    try:
        tree = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{folder} is no run directory: it has no config.json") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read: {error}") from None
    return from_dict(tree)


@contextmanager
def _evaluating(*networks: nn.Module) -> Iterator[None]:
    before = [network.training for network in networks]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for network, training in zip(networks, before, strict=True):
            network.train(training)
