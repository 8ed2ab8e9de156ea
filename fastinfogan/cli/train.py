"""``train``: the command that trains, continues a run, or shows what it would do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Optional

import tyro

from fastinfogan.cli.loading import loading
from fastinfogan.config import TrainConfig, resolve
from fastinfogan.paths import expanded
from fastinfogan.tell import lasting_output


@dataclass(frozen=True)
class Train(TrainConfig):
    """Train an InfoGAN and leave numbers, pictures and a generator file behind.

    With no options: the 5,000 MNIST digits that come with the installation, the paper's MNIST
    networks and codes, Q's consistency, augmented judging and averaged weights, 1,000 iterations.
    """

    resume: Annotated[Optional[Path], tyro.conf.arg(metavar="RUN", help_behavior_hint="")] = None
    """Continue the run in this directory; options that aren't given keep the run's values."""
    or_start: tyro.conf.FlagCreatePairsOff[bool] = False
    """With --resume RUN: start the run if it isn't there yet, and do nothing if it is finished. So
    one command can be given again until the run is done, as torchrun and batch systems do."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the resolved configuration, parameter counts and shapes; do nothing."""

    def saved(self) -> TrainConfig | None:
        """The configuration of the run that goes on, if one does."""
        if self.resume is None:
            return None
        from fastinfogan.results.run_config import read_config
        from fastinfogan.training.directory import CONFIG

        folder = expanded(self.resume)
        if self.or_start and not (folder / CONFIG).exists():
            return None
        return read_config(folder)

    def __call__(self) -> int:
        config = TrainConfig(self.data, self.model, self.optim, self.run)
        if self.dry_run:
            from fastinfogan.config.description import describe_config

            if self.saved() is not None:
                from fastinfogan.training.resume import continued_config

                config = continued_config(self.resume, config)
            print(describe_config(config))
            return 0
        if self.resume is None:  # what can't work is refused before torch loads
            config = resolve(config)
            if config.run.out is not None:
                from fastinfogan.training.directory import refuse_existing

                refuse_existing(config.run.out)
        with loading():
            from fastinfogan.training.trainer import train

        with lasting_output("the run goes on, and leaves everything in its folder"):
            run = train(config, self.resume, self.or_start)
            if run.evaluation is not None:
                from fastinfogan.results.evaluation_text import format_evaluation

                print(format_evaluation(run.evaluation))
                for sign in run.collapse:
                    print(f"this run looks collapsed, since iteration {sign.since}: {sign.says}")
                where = f"report.html, pictures and generator.safetensors are in {run.folder}"
                print(where, flush=True)
        return 128 + run.interrupted if run.interrupted else 0
