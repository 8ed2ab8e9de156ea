"""``study``: one configuration with many seeds, and two such studies side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fastinfogan.cli.arguments import within
from fastinfogan.cli.loading import loading
from fastinfogan.config import TrainConfig, unset_as
from fastinfogan.cores import usable_cores
from fastinfogan.errors import UserError, why
from fastinfogan.paths import quoted
from fastinfogan.sizes import counted
from fastinfogan.tell import lasting_output

if TYPE_CHECKING:
    from fastinfogan.study.folder import Study as StudyFolder

MOST_JOBS = 64  # processes, even where there are fewer cores


@dataclass(frozen=True)
class Study(TrainConfig):
    """Train one configuration with many seeds; collect their numbers and choose a run.

    Takes all options of train. Started again with the same --out it goes on: what is finished
    isn't trained again."""

    seeds: Annotated[str | None, unset_as("SEEDS", "0-4, or the study's own")] = None
    """A number of seeds (20), a range (0-19) or a list (1,4,10-12)."""
    jobs: Annotated[int | None, unset_as("COUNT", "a core each; 1 on a GPU")] = None
    """Runs at a time. On a CPU two with one thread each finish sooner than one after the other."""
    only: Annotated[int | None, unset_as("K", "all")] = None
    """Train the K-th of the seeds alone, from 0: for a batch system's array."""
    compare: Annotated[tuple[Path, Path] | None, unset_as("A B", "none")] = None
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
        with loading():
            import fastinfogan.study.collect  # noqa: F401  what takes its time
            from fastinfogan.study.folder import open_study, parse_seeds

        if self.run.seed != 0:
            raise UserError(f"--seed {self.run.seed}: a study has several, with --seeds")
        seeds = None if self.seeds is None else parse_seeds(self.seeds)
        cores = usable_cores()
        jobs = 1 if _on_gpu(self.run.device) else cores
        if self.jobs is not None:
            jobs = within(1, max(MOST_JOBS, cores), self.jobs, "--jobs")
        config = TrainConfig(self.data, self.model, self.optim, self.run)
        study = open_study(self.run.out, config, seeds)
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
        from fastinfogan.study.report import plot_errors, table

        folder, chosen = study.folder, study.seeds
        if self.only is not None:
            only = within(0, len(study.seeds) - 1, self.only, "--only")
            chosen = (study.seeds[only],)
        jobs = min(jobs, len(chosen))
        with lasting_output(f"the study goes on, and leaves everything in {folder}"):
            print(f"{counted(len(chosen), 'seed')}, {jobs} at a time, in {folder}", flush=True)
            with shown_progress() as progress:
                failed, stopped = run_seeds(
                    study, chosen, jobs, max(1, cores // jobs), progress.line, progress.show
                )
            found = collect(study)
            print(table(read_study(folder), found))
            if plot_errors({study.config.data.dataset: found}, folder / "errors.png"):
                print(f"every seed's error over the iterations: {folder / 'errors.png'}")
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
    from fastinfogan.study.collect import collect, compare
    from fastinfogan.study.folder import read_study
    from fastinfogan.study.report import comparison, plot_errors, table

    found = {}
    for folder in (a, b):
        study = read_study(folder)
        found[str(folder)] = collect(study)
        print(f"{folder}: {table(study, found[str(folder)])}")
    if len(found) < 2:
        raise UserError(f"--compare {a} {b}: these are the same study")
    for folder, one in found.items():
        if not one["seeds"]:
            raise UserError(f"--compare {folder}: none of its seeds is finished")
    print(comparison((str(a), str(b)), compare(*found.values())))
    picture = a / "compared.png"
    if plot_errors(found, picture):
        print(picture)
    return 0


def _on_gpu(name: str) -> bool:
    from fastinfogan.device import pick_device

    return pick_device(name).type == "cuda"
