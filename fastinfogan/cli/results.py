"""``evaluate``, ``sample``, ``traverse`` and ``export``: the commands that look at a run."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Optional

import tyro

from fastinfogan.cli.arguments import (
    RunPath,
    SourcePath,
    output_file,
    output_folder,
    valid_seed,
    within,
    writing,
)
from fastinfogan.config import unset_as
from fastinfogan.errors import UserError
from fastinfogan.paths import quoted
from fastinfogan.results.export.formats import Format, default_name
from fastinfogan.tell import on_stderr

COLUMNS, LOW, HIGH = 10, -2.0, 2.0  # of a continuous code in a traversal
MOST_SAMPLES = 1_000_000  # their codes are kept until they have all been seen


@dataclass(frozen=True)
class Evaluate:
    """Measure a run: L_I per code, and how well codes match labels or known factors."""

    run: RunPath
    """Run directory."""
    data_dir: Annotated[Optional[Path], unset_as("DIR", "where the run found them")] = None
    """Folder with the dataset's files."""
    samples: int = 10_000
    """Images to generate for L_I."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print JSON instead of text."""
    output: Annotated[Optional[Path], unset_as("FILE", "none")] = None
    """PNG to write: what each code knows of each known factor."""

    def __call__(self) -> int:
        from fastinfogan.data import find_dataset
        from fastinfogan.results.evaluation_text import format_evaluation
        from fastinfogan.results.factors.picture import plot_factors
        from fastinfogan.results.run import images_of, load_run

        if self.output is not None:
            output_file(self.output, ".png")
        samples = within(1, MOST_SAMPLES, self.samples, "--samples")
        run = load_run(self.run)
        if self.data_dir is not None:
            if find_dataset(run.config.data.dataset).built_in:
                raise UserError(
                    f"--data-dir {self.data_dir}: this run learned from {run.config.data.dataset}, "
                    "whose images come with the installation; leave it out"
                )
            data = replace(run.config.data, data_dir=self.data_dir)
            run.config = replace(run.config, data=data)
        images = images_of(run.config, "test")
        if self.output is not None and images.factors is None:
            raise UserError(
                f"--output {self.output}: {images.name} has no known factors to draw; leave it out"
            )
        evaluation = run.evaluate(images, samples=samples)
        as_json = json.dumps(evaluation.to_dict(), indent=2)
        print(as_json if self.json else format_evaluation(evaluation))
        if self.output is not None:
            found = evaluation.disentanglement
            with writing(self.output):
                drawn = found is not None and plot_factors(found, self.output)
            if not drawn:
                raise UserError(
                    f"--output {self.output}: nothing to draw, for no factor of {images.name} "
                    "varies, or no code is regularised"
                )
        return 0


@dataclass(frozen=True)
class Sample:
    """Draw images, with any code set by hand."""

    source: SourcePath
    """Run directory, or a generator.safetensors."""
    output: Path = Path("samples.png")
    """Where to write: a .png grid, or an .npz with uint8 images, noise and code values."""
    count: int = 128
    """Number of images."""
    set: str = ""
    """Codes to set by hand, e.g. c1=3,c2=-1.5."""
    seed: int = 0
    """Of noise and codes."""

    def __call__(self) -> int:
        from fastinfogan.results.run import open_generator

        output = output_file(self.output, ".png", ".npz")
        seed = valid_seed(self.seed)
        generator = open_generator(self.source)
        fixed = generator.parse_codes(self.set)
        with writing(output):
            generator.save_samples(output, self.count, seed=seed, fixed=fixed)
        print(self.output)
        return 0


@dataclass(frozen=True)
class Traverse:
    """Vary one code along the columns of a picture while all else stays the same along a row."""

    source: SourcePath
    """Run directory, or a generator.safetensors."""
    code: Annotated[Optional[str], unset_as("CODE", "a picture for each")] = None
    """Code to vary, e.g. c2."""
    output: Annotated[
        Optional[Path], unset_as("FILE", "traversal_CODE.png here, with what --set sets")
    ] = None
    """PNG to write."""
    set: str = ""
    """Codes to set by hand, e.g. c1=3."""
    rows: int = 10
    """Samples of noise."""
    columns: Annotated[Optional[int], unset_as("INT", str(COLUMNS))] = None
    """Values of a continuous code."""
    low: Annotated[Optional[float], unset_as("FLOAT", str(LOW))] = None
    """First value of a continuous code."""
    high: Annotated[Optional[float], unset_as("FLOAT", str(HIGH))] = None
    """Last value of a continuous code."""
    seed: int = 0
    """Of noise and codes."""

    def __call__(self) -> int:
        from fastinfogan.results.grid import save_png
        from fastinfogan.results.run import open_generator

        if self.output is not None:
            if self.output.suffix in (".gif", ".webp", ".apng"):
                raise UserError(
                    f"--output {self.output}: traverse draws one picture, a .png; fastinfogan "
                    "animate writes what moves"
                )
            output_file(self.output, ".png")
        seed = valid_seed(self.seed)
        generator = open_generator(self.source)
        fixed = generator.parse_codes(self.set)
        names = generator.spec.names
        if self.code is not None:
            codes = [generator.code_index(self.code, "--code")]
        else:
            codes = [i for i in range(len(names)) if i not in fixed]
            if not codes:
                raise UserError(f"--set {self.set}: sets every code, and none is left to vary")
            if self.output is not None and len(codes) > 1:
                raise UserError(f"--output {self.output}: name the code that it shows with --code")
        continuous = (("--columns", self.columns), ("--low", self.low), ("--high", self.high))
        for flag, value in continuous:
            if value is not None and all(generator.spec.codes[code].is_discrete for code in codes):
                shown = ", ".join(names[code] for code in codes)
                raise UserError(f"{flag} {value:g}: it is for continuous codes; not for {shown}")
        for code in codes:
            picture = generator.traverse(
                code,
                rows=self.rows,
                columns=COLUMNS if self.columns is None else self.columns,
                low=LOW if self.low is None else self.low,
                high=HIGH if self.high is None else self.high,
                seed=seed,
                fixed=fixed,
            )
            # Not over the one that a run leaves in its folder, with no code set.
            pinned = "".join(f"_{names[other]}={value:g}" for other, value in fixed.items())
            output = self.output or Path(f"traversal_{names[code]}{pinned}.png")
            with writing(output_file(output, ".png")):
                save_png(output, picture)
            print(output)
        return 0


@dataclass(frozen=True)
class Export:
    """Write the generator of a run's newest checkpoint in a form that other programs load."""

    run: RunPath
    """Run directory."""
    format: Format = "safetensors"
    """safetensors describes itself. onnx takes noise, c1, c2, ... as inputs, onnx-latents one
    vector of them all. hub is a folder for a model hub."""
    output: Annotated[Optional[Path], unset_as("PATH", "generator.* or hub in the run")] = None
    """File to write; for a hub, the folder."""

    def __call__(self) -> int:
        from fastinfogan.results.run import load_run

        if self.output is not None:
            if self.format == "hub":
                output_folder(self.output)
            else:
                if self.format == "safetensors" and self.output.suffix == ".onnx":
                    raise UserError(
                        f"--output {self.output}: names ending in .safetensors work; "
                        "--format onnx writes ONNX"
                    )
                output_file(self.output, Path(default_name(self.format)).suffix)
        run = load_run(self.run)
        with writing(self.output or self.run / default_name(self.format)):
            path = run.export(self.output, self.format)
        print(path)
        if self.format == "hub":
            on_stderr(
                "give its README.md a licence; then, with huggingface_hub installed: hf upload "
                f"USER/NAME {quoted(path)}"
            )
        return 0
