"""The command line: parse with tyro, dispatch, and turn mistakes into one line and exit code 2."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fastinfogan.config import TrainConfig, unset_as
from fastinfogan.errors import TrainingDiverged, UserError

RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
SourcePath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|FILE")]


@dataclass(frozen=True)
class Train(TrainConfig):
    """Train an InfoGAN and leave numbers, pictures and a generator file behind.

    With no options: the 5,000 MNIST digits that come with the installation, the paper's MNIST
    networks and codes, 1,000 iterations."""

    resume: Annotated[Path | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="")] = None
    """Continue the run in this directory; options that aren't given keep the run's values."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the resolved configuration, parameter counts and shapes; do nothing."""

    def __call__(self) -> int:
        config = TrainConfig(self.data, self.model, self.optim, self.run)
        if self.dry_run:
            from fastinfogan.describe import describe_config

            print(describe_config(config))
            return 0
        with _leaving_at_once():
            from fastinfogan.training.trainer import train

        run = train(config, self.resume)
        if run.evaluation is not None:
            from fastinfogan.results.evaluate import format_evaluation

            print(format_evaluation(run.evaluation))
            print(f"pictures, numbers and generator.safetensors are in {run.folder}")
        return 128 + run.interrupted if run.interrupted else 0


@dataclass(frozen=True)
class Evaluate:
    """Measure a run: L_I per code, and how well categories match labels."""

    run: RunPath
    """Run directory."""
    data_dir: Annotated[Path | None, unset_as("DIR", "where the run found them")] = None
    """Folder with the dataset's files."""
    samples: int = 10_000
    """Images to generate for L_I."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print JSON instead of text."""

    def __call__(self) -> int:
        import json
        from dataclasses import replace

        from fastinfogan.results.evaluate import format_evaluation
        from fastinfogan.results.run import load_run

        run = load_run(self.run)
        _tell(note for _, note in run.damaged)
        if self.data_dir is not None:
            data = replace(run.config.data, data_dir=self.data_dir)
            run.config = replace(run.config, data=data)
        evaluation = run.evaluate(samples=_at_least(1, self.samples, "--samples"))
        as_json = json.dumps(evaluation.to_dict(), indent=2)
        print(as_json if self.json else format_evaluation(evaluation))
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

        count, output = _at_least(1, self.count, "--count"), _output(self.output)
        generator = open_generator(self.source)
        _tell(generator.notes)
        fixed = generator.parse_codes(self.set)
        generator.save_samples(output, count, seed=_seed(self.seed), fixed=fixed)
        print(self.output)
        return 0


@dataclass(frozen=True)
class Traverse:
    """Vary one code along the columns of a picture while all else stays the same along a row."""

    source: SourcePath
    """Run directory, or a generator.safetensors."""
    code: Annotated[str | None, unset_as("CODE", "a picture for each")] = None
    """Code to vary, e.g. c2."""
    output: Annotated[Path | None, unset_as("FILE", "traversal_CODE.png here")] = None
    """PNG to write."""
    set: str = ""
    """Codes to set by hand, e.g. c1=3."""
    rows: int = 10
    """Samples of noise."""
    columns: int = 10
    """Values of a continuous code."""
    low: float = -2.0
    """First value of a continuous code."""
    high: float = 2.0
    """Last value of a continuous code."""
    seed: int = 0
    """Of noise and codes."""

    def __call__(self) -> int:
        from fastinfogan.results.pictures import save_png
        from fastinfogan.results.run import open_generator

        for flag, value in (("--low", self.low), ("--high", self.high)):
            if not math.isfinite(value):
                raise UserError(f"{flag} {value}: finite numbers work")
        generator = open_generator(self.source)
        _tell(generator.notes)
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
        for code in codes:
            picture = generator.traverse(
                code,
                rows=_at_least(1, self.rows, "--rows"),
                columns=_at_least(1, self.columns, "--columns"),
                low=self.low,
                high=self.high,
                seed=_seed(self.seed),
                fixed=fixed,
            )
            output = self.output or Path(f"traversal_{names[code]}.png")
            save_png(_output(output), picture)
            print(output)
        return 0


@dataclass(frozen=True)
class Export:
    """Write the generator of a run's newest checkpoint as generator.safetensors."""

    run: RunPath
    """Run directory."""
    output: Annotated[Path | None, unset_as("FILE", "generator.safetensors in the run")] = None
    """File to write."""

    def __call__(self) -> int:
        from fastinfogan.results.run import load_run

        if self.output is not None:
            _output(self.output)
        run = load_run(self.run)
        _tell(note for _, note in run.damaged)
        print(run.export(self.output))
        return 0


@dataclass(frozen=True)
class Datasets:
    """List the datasets: what is there, and what each needs."""

    data_dir: Annotated[Path | None, unset_as("DIR", "none")] = None
    """Folder to look for files in."""

    def __call__(self) -> int:
        from fastinfogan.data import DATASETS, dataset_status

        for name, dataset in DATASETS.items():
            ready, detail = dataset_status(name, self.data_dir)
            print(f"{name:<15}{'ready' if ready else 'needs files':<13}{dataset.summary}")
            print(f"{'':<28}{detail}")
        return 0


@dataclass(frozen=True)
class Ingest:
    """Decode a dataset once to what training reads (train does it, too, when it has to)."""

    dataset: str = "folder"
    """Name of a dataset; `fastinfogan datasets` lists them."""
    data_dir: Annotated[Path | None, unset_as("DIR", "none")] = None
    """Folder that holds the dataset's files."""
    image_size: Annotated[int | None, unset_as("PIXELS", "32")] = None
    """folder only: side of the square images; 16, 28, 32, 64 or 128."""
    channels: Annotated[int | None, unset_as("1|3", "3")] = None
    """folder only: 1 for grey, 3 for colour."""
    allow_bad: tyro.conf.FlagCreatePairsOff[bool] = False
    """Leave out files that can't be read even if they are more than 1 %."""

    def __call__(self) -> int:
        from fastinfogan.data import find_dataset, make_request
        from fastinfogan.data.ingest.make import describe, ingest

        dataset = find_dataset(self.dataset)
        if dataset.source is None:
            print(f"{dataset.name}: nothing to ingest; its images are read as they are")
            return 0
        for split in ("train", "test") if dataset.has_test_split else ("train",):
            request = make_request(
                dataset, self.data_dir, split, self.image_size, self.channels,
                allow_bad=self.allow_bad,
            )  # fmt: skip
            print(describe(ingest(dataset.source(request), request)))
        return 0


@dataclass(frozen=True)
class Doctor:
    """Show what this machine has, and what of fastinfogan will run on it."""

    def __call__(self) -> int:
        from fastinfogan.doctor import main

        return main()


_Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Sample, tyro.conf.subcommand("sample")]
    | Annotated[Traverse, tyro.conf.subcommand("traverse")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Ingest, tyro.conf.subcommand("ingest")]
    | Annotated[Datasets, tyro.conf.subcommand("datasets")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
)
_STYLE = (tyro.conf.OmitArgPrefixes,)


# Yes, no, or whatever suits the device when not given: a flag to type, True or False to tyro.
_SWITCHES = ("compile", "cuda-graphs")


def _spell_out(arguments: Sequence[str]) -> list[str]:
    """``--compile`` -> ``--compile True``, ``--no-compile`` -> ``--compile False``."""
    spelled = []
    for i, argument in enumerate(arguments):
        spelled.append(argument)
        for name in _SWITCHES:
            if argument == f"--no-{name}":
                spelled[-1:] = [f"--{name}", "False"]
            elif argument == f"--{name}" and arguments[i + 1 : i + 2] not in (["True"], ["False"]):
                spelled.append("True")
    return spelled


def parse(arguments: Sequence[str]) -> object:
    """The command that the arguments ask for."""
    arguments = _spell_out(arguments)
    command = tyro.cli(
        _Command, prog="fastinfogan", args=arguments, config=_STYLE,
        description="Train InfoGAN, and see what its codes have learned.",
    )  # fmt: skip
    if isinstance(command, Train) and command.resume is not None:
        # What isn't given keeps the value that the run was started with, not the default.
        from fastinfogan.results.run import read_config

        saved = read_config(command.resume)
        default = Train(saved.data, saved.model, saved.optim, saved.run)
        command = tyro.cli(
            Train, prog="fastinfogan train", args=list(arguments)[1:], default=default,
            config=_STYLE,
        )  # fmt: skip
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit code: 2 for a mistake, 1 for a run that diverged."""
    try:
        return parse(sys.argv[1:] if arguments is None else arguments)()
    except UserError as error:
        print(f"fastinfogan: error: {error}", file=sys.stderr)
        return 2
    except TrainingDiverged as error:
        print(f"fastinfogan: stopped: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a full disk, a folder that can't be written to
        print(f"fastinfogan: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # while training, the trainer takes it, and saves
        print(f"fastinfogan: {_INTERRUPTED}", file=sys.stderr)
        return 130


_INTERRUPTED = "interrupted; a run that was saved goes on with train --resume RUN"


@contextlib.contextmanager
def _leaving_at_once() -> Iterator[None]:
    """Ctrl-C ends the process while libraries load: some of them swallow KeyboardInterrupt."""

    def leave(*_: object) -> None:
        os.write(2, f"fastinfogan: {_INTERRUPTED}\n".encode())
        os._exit(130)

    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _tell(notes: Iterable[str]) -> None:
    """Say what isn't an error, but shouldn't go unnoticed."""
    for note in notes:
        print(f"fastinfogan: {note}", file=sys.stderr)


def _at_least(least: int, value: int, flag: str) -> int:
    if value < least:
        raise UserError(f"{flag} {value}: {least} or more works")
    return value


def _output(path: Path) -> Path:
    """The path, if a file can be written there."""
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"--output {path}: name a file in a folder that exists")
    return path


def _seed(value: int) -> int:
    if not 0 <= value < 2**63:
        raise UserError(f"--seed {value}: 0 to 2^63 - 1 works")
    return value
