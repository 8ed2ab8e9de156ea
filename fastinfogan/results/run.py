"""A run: what its directory holds, how it is read back, and what a finished one leaves behind.

config.json            the resolved configuration (TrainConfig)
metrics.jsonl          one row per log line: losses, L_I, images/s
checkpoints/           the two newest (training/checkpoint.py)
pictures/              samples and traversals at intervals
samples.png, traversal_*.png, curves.png, report.html, explorer.html, generator.safetensors,
summary.json           at the end; factors.png too, where the dataset's factors are known
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fastinfogan.config import TrainConfig, to_dict
from fastinfogan.data import ImageData, Split, find_dataset, load_images
from fastinfogan.errors import UserError
from fastinfogan.lock import holder
from fastinfogan.model.initial import Undrawn
from fastinfogan.model.networks import Discriminator, Generator
from fastinfogan.model.weights import restore_weights
from fastinfogan.paths import expanded, quoted
from fastinfogan.ranks.alone import ALONE, Ranks
from fastinfogan.results.eval_mode import in_eval_mode
from fastinfogan.results.evaluate import Evaluation, evaluate, evaluate_briefly
from fastinfogan.results.export.formats import Format, default_name, write_for_others
from fastinfogan.results.generator import TrainedGenerator
from fastinfogan.results.generator_file import export_generator, generator_content, load_generator
from fastinfogan.results.grid import save_pngs
from fastinfogan.results.leaving import leave_behind
from fastinfogan.results.run_config import read_config
from fastinfogan.results.summary import read_summary
from fastinfogan.tell import Tell, on_stderr
from fastinfogan.training.checkpoint import check_fits, list_checkpoints, load_newest
from fastinfogan.training.collapse import Sign
from fastinfogan.training.directory import LOCK


class Run:
    """A trained, or half-trained, model and the directory it lives in.

    Attributes:
        folder: the run directory.
        config: the resolved configuration.
        generator: the generator after ``iteration`` iterations; with ``--average``, its mean.
        discriminator: the discriminator, D and Q, likewise.
        iteration: iterations trained.
        interrupted: the signal that ended training early, if one did.
        evaluation: what was measured when this session finished the run; None if it didn't.
        code_to_label: name of a categorical code -> the label that each category shows; empty
            where nothing is known.
        collapse: its signs at the end of training, when this session finished the run.
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
        self.evaluation: Evaluation | None = None
        self.code_to_label: Mapping[str, Sequence[str | None]] = {}
        self.collapse: tuple[Sign, ...] = ()

    def evaluate(
        self, data: ImageData | None = None, samples: int = 10_000, ranks: Ranks = ALONE
    ) -> Evaluation:
        """L_I per code on generated images; how codes match the labels or factors of real ones.

        Args:
            data: real images (default: the dataset's test split).
            samples: how many images to generate.
            ranks: who look at them together; all of them call this.

        Raises:
            UserError: the images can't be had, or don't have the shape that the networks read.
        """
        if data is None:
            data = images_of(self.config, "test")
        if data.image_shape != self.config.architecture.image_shape:
            raise UserError(
                f"--dataset {data.name}: its images are {data.image_shape}, this run's networks "
                f"read {self.config.architecture.image_shape}"
            )
        with in_eval_mode(self.generator, self.discriminator):
            return evaluate(
                self.generator,
                self.discriminator,
                self.config.spec,
                data,
                output_range=self.config.architecture.output_range,
                samples=samples,
                ranks=ranks,
            )

    def evaluate_briefly(self, data: ImageData, ranks: Ranks) -> dict[str, Any]:
        """How codes match the labels or factors of real images, for a row of metrics.

        Args:
            data: real images.
            ranks: who look at them together; all of them call this.
        """
        with in_eval_mode(self.discriminator):
            output_range = self.config.architecture.output_range
            return evaluate_briefly(self.discriminator, self.config.spec, data, output_range, ranks)

    def export(self, path: Path | str | None = None, format: Format = "safetensors") -> Path:
        """Write the generator in a form that other programs load (docs/generator-format.md).

        Args:
            path: default generator.safetensors, generator.onnx or hub in the run directory.
            format: "safetensors", a file that any program can load; "onnx", with noise and codes
                as inputs, or "onnx-latents", with G's whole vector as the only one; "hub", a
                folder for a model hub.

        Returns:
            The path.

        Raises:
            UserError: there is no such format; a weight is NaN or infinite; what writes ONNX
                isn't installed, or its images are others; something else is where the folder goes.
            OSError: it can't be written.
        """
        path = self.folder / default_name(format) if path is None else expanded(path)
        if format == "safetensors":
            export_generator(
                path,
                self.generator,
                self.config,
                iteration=self.iteration,
                code_to_label=self.code_to_label,
            )
            return path
        try:
            content = self.generator_file()
        except ValueError as error:
            raise UserError(f"{path} is not written: {error}") from None
        # What ``load_run`` or ``train`` had to say of a summary, it has said.
        summary = read_summary(self.folder, self.config, self.iteration, lambda _: None)
        write_for_others(format, path, content, summary)
        return path

    def generator_file(self) -> bytes:
        """What ``export`` writes."""
        return generator_content(
            self.generator,
            self.config,
            iteration=self.iteration,
            code_to_label=self.code_to_label,
        )

    def pictures(self) -> dict[str, np.ndarray]:
        """Name -> a grid of samples, and the traversals of all codes: uint8 (height, width, C)."""
        with in_eval_mode(self.generator):
            return self.trained_generator().pictures()

    def trained_generator(self) -> TrainedGenerator:
        """The generator and what it takes to use it, for which it must be in eval mode."""
        return TrainedGenerator(
            generator=self.generator,
            spec=self.config.spec,
            output_range=self.config.architecture.output_range,
            code_to_label=self.code_to_label,
            config=to_dict(self.config),
        )

    def finish(
        self,
        data: ImageData,
        trained_on: ImageData,
        seconds: float,
        device: str,
        collapse: Sequence[Sign],
        show: Callable[[Mapping[str, np.ndarray]], None] = lambda images: None,
        ranks: Ranks = ALONE,
    ) -> Evaluation:
        """Leave behind what a finished run should: the generator, pictures, pages, numbers.

        Of several ranks all measure and call this, and the first leaves it.

        Args:
            data: real images to evaluate on.
            trained_on: real images that it learned from.
            seconds: spent training.
            device: what trained, in words.
            collapse: signs of it at the end of training.
            show: gets the pictures, by their names.
            ranks: that have trained it.

        Returns:
            What was measured.
        """
        self.collapse = tuple(collapse)
        ranks.first(self.export)  # scores take long: who is killed meanwhile has it, without labels
        evaluation = self.evaluation = self.evaluate(data, ranks=ranks)
        self.code_to_label = evaluation.code_to_label

        def leave() -> None:
            self.export()
            images = self.pictures()
            save_pngs(self.folder, images)
            show(images)
            with in_eval_mode(self.generator):
                leave_behind(
                    self.folder, self.config, self.trained_generator(), evaluation,
                    iteration=self.iteration, images=trained_on, seconds=seconds, device=device,
                    collapse=collapse,
                )  # fmt: skip

        ranks.first(leave)
        return evaluation


def images_of(config: TrainConfig, split: Split) -> ImageData:
    """The images that a configuration names.

    Args:
        config: resolved.
        split: "train" or "test".

    Raises:
        UserError: they can't be had.
    """
    c, size = config.data, config.data.image_size
    if size is None and find_dataset(c.dataset).sizes:  # the one that the preset works on
        size = config.architecture.image_shape[1]
    return load_images(
        c.dataset,
        c.data_dir,
        split,
        size,
        c.channels,
        allow_bad=c.allow_bad,
        stretch=c.stretch,
        feed=config.run.feed,
    )


def load_run(folder: Path | str, device: torch.device | str = "cpu", tell: Tell = on_stderr) -> Run:
    """Read a run back from its newest usable checkpoint.

    Args:
        folder: the run directory.
        device: where its networks are wanted.
        tell: gets a line for each damaged checkpoint that was passed over.

    Raises:
        UserError: there's no run, or no usable checkpoint in it.
    """
    folder = expanded(folder)
    config = read_config(folder)
    if not list_checkpoints(folder / "checkpoints"):
        owner = holder(folder / LOCK)
        if owner is not None:
            raise UserError(f"{folder}: {owner} trains it, and there is no checkpoint yet")
        raise UserError(
            f"{folder}: it has no checkpoint; fastinfogan train --resume {quoted(folder)} makes one"
        )
    state, progress, _, damaged = load_newest(folder / "checkpoints")
    check_fits(progress, config, folder)
    for _, problem in damaged:
        tell(problem)
    spec, architecture = config.spec, config.architecture
    contrastive = config.optim.contrastive > 0
    with Undrawn():
        generator = Generator(architecture, spec)
        discriminator = Discriminator(architecture, spec, config.model.separate_q, contrastive)
    prefix = "average." if config.optim.average else ""
    restore_weights(generator, state, f"{prefix}generator.")
    restore_weights(discriminator, state, f"{prefix}discriminator.")
    run = Run(folder, config, generator.to(device), discriminator.to(device), progress.iteration)
    summary = read_summary(folder, config, run.iteration, tell)  # not one of an earlier end
    if summary is not None:
        run.code_to_label = summary["evaluation"]["code_to_label"]
    return run


def open_generator(source: Path | str, tell: Tell = on_stderr) -> TrainedGenerator:
    """The generator of a run directory's newest usable checkpoint, or of a generator.safetensors.

    Args:
        source: the run directory or the file.
        tell: gets a line for each damaged checkpoint that was passed over.

    Raises:
        UserError: it is neither, or damaged.
    """
    source = expanded(source)
    if not source.is_dir():
        return load_generator(source)
    run = load_run(source, tell=tell)
    run.generator.eval()
    return run.trained_generator()
