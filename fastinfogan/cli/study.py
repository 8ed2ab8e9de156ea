"""``study``: one configuration with many seeds, and two such studies side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional, Union

from fastinfogan.cli.arguments import within
from fastinfogan.cli.loading import loading
from fastinfogan.config import TrainConfig, unset_as
from fastinfogan.cores import usable_cores
from fastinfogan.errors import UserError, why
from fastinfogan.paths import quoted
from fastinfogan.ranks.place import several
from fastinfogan.sizes import counted
from fastinfogan.tell import lasting_output, on_stderr

if TYPE_CHECKING:
    from fastinfogan.study.folder import Study as StudyFolder

MOST_JOBS = 64  # processes, even where there are fewer cores


@dataclass(frozen=True)
class Study(TrainConfig):
    """Train one configuration with many seeds; collect their numbers and choose a run.

    Takes all options of train. Started again with the same --out it goes on: what is finished
    isn't trained again."""

    seeds: Annotated[Optional[str], unset_as("SEEDS", "0-4, or the study's own")] = None
    """A number of seeds (20), a range (0-19) or a list (1,4,10-12)."""
    jobs: Annotated[Optional[int], unset_as("COUNT", "a core each; 1 on a GPU")] = None
    """Runs at a time. On a CPU two with one thread each finish sooner than one after the other."""
    only: Annotated[Optional[int], unset_as("K", "all")] = None
    """Train the K-th of the seeds alone, from 0: for a batch system's array. Needs --out."""
    compare: Annotated[Union[None, tuple[Path, Path]], unset_as("A B", "none")] = None
    """Train nothing: put two studies side by side, with a test of significance."""

    def saved(self) -> TrainConfig | None:
        """The configuration of the study that goes on, if one does."""
        from fastinfogan.study.folder import FILE, read_study

        if self.run.out is None or not (self.run.out / FILE).exists():
            return None
        study = read_study(self.run.out)
        return replace(study.config, run=replace(study.config.run, out=self.run.out))

    def __call__(self) -> int:
        if self.compare is not None:
            return _compare(*self.compare)
        if several(os.environ):
            raise UserError(
                f"--jobs {self.jobs or 1}: a study trains each seed in a process of its own, and "
                "torchrun one run in several; leave torchrun out, or unset WORLD_SIZE"
            )
        with loading():
            import fastinfogan.study.collect  # noqa: F401  what takes its time
            from fastinfogan.study.folder import open_study, parse_seeds

        if self.only is not None and self.run.out is None:
            raise UserError(
                f"--only {self.only}: --only needs --out: the array's tasks share one study"
            )
        if self.run.seed != 0:
            raise UserError(f"--seed {self.run.seed}: a study has several, with --seeds")
        seeds = None if self.seeds is None else parse_seeds(self.seeds)
        cores = usable_cores()
        jobs = 1 if _on_gpu(self.run.device) else cores
        if self.jobs is not None:
            jobs = within(1, max(MOST_JOBS, cores), self.jobs, "--jobs")
        config = TrainConfig(self.data, self.model, self.optim, self.run)
        study = open_study(self.run.out, config, seeds, only=self.only)
        try:
            return self._run(study, jobs, cores)
        except OSError as error:
            raise UserError(
                f"{error.filename or study.folder} can't be written ({why(error)}); what is "
                f"trained is safe; mend that, then fastinfogan study --out {quoted(study.folder)}"
            ) from None

    def _run(self, study: StudyFolder, jobs: int, cores: int) -> int:
        from fastinfogan.study.collect import collect
        from fastinfogan.study.folder import read_study
        from fastinfogan.study.jobs import run_seeds
        from fastinfogan.study.progress import shown_progress
        from fastinfogan.study.report import table

        folder, chosen = study.folder, study.seeds
        if self.only is not None:
            chosen = (study.seeds[self.only],)
        jobs = min(jobs, len(chosen))
        with lasting_output(f"the study goes on, and leaves everything in {folder}"):
            print(f"{counted(len(chosen), 'seed')}, {jobs} at a time, in {folder}", flush=True)
            with shown_progress() as progress:
                failed, stopped = run_seeds(
                    study, chosen, jobs, max(1, cores // jobs), progress.line, progress.show
                )
            found = collect(study)
            print(table(read_study(folder), found))
            pictures = folder / "errors.png", folder / "scores.png"
            for picture in _drawn({study.config.data.dataset: found}, *pictures):
                print(f"every seed's {picture.stem} over the iterations: {picture}")
            if stopped is not None:
                print(
                    f"stopped by {stopped.name}; go on with: fastinfogan study --out "
                    f"{quoted(folder)}"
                )
                return 128 + stopped
        if failed:
            raise UserError(
                f"{counted(len(failed), 'seed')} failed ({', '.join(map(str, failed))}); "
                f"seed-K/log.txt in {folder} says why"
            )
        return 0


def _compare(a: Path, b: Path) -> int:
    from fastinfogan.study.collect import compare, looked_at
    from fastinfogan.study.folder import read_study
    from fastinfogan.study.report import comparison, table

    if a.absolute() == b.absolute():
        raise UserError(f"--compare {a} {b}: these are the same study")
    studies = {str(folder): read_study(folder) for folder in (a, b)}
    found = {name: looked_at(study) for name, study in studies.items()}
    for name, one in found.items():
        if not one["seeds"]:
            raise UserError(f"--compare {name}: none of its seeds is finished")
    for name, one in found.items():
        print(f"{name}: {table(studies[name], one)}")
    print(comparison((str(a), str(b)), compare(*found.values())))
    for picture in _drawn(found, a / "compared.png", a / "compared-scores.png"):
        print(picture)
    return 0


def _drawn(studies: Mapping[str, Mapping[str, Any]], errors: Path, scores: Path) -> list[Path]:
    """Draw what there is to draw of the studies, where the folder takes it."""
    from fastinfogan.study.curves import plot_errors, plot_scores
    from fastinfogan.study.folder import is_unwritable

    drawn = []
    for plot, picture in ((plot_errors, errors), (plot_scores, scores)):
        try:
            if plot(studies, picture):
                drawn.append(picture)
        except OSError as error:
            if not is_unwritable(error):
                raise
            on_stderr(f"{picture} isn't drawn: {why(error)}")
    return drawn


def _on_gpu(name: str) -> bool:
    from fastinfogan.device import pick_device

    return pick_device(name).type == "cuda"
