"""Going on with a run: what may change on the way, and reading back where it stood."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from fastinfogan.config import (
    TrainConfig,
    differences,
    flag_of,
    other_experiment,
    resolve,
)
from fastinfogan.data import ImageData
from fastinfogan.engine.build import Engine
from fastinfogan.errors import UserError
from fastinfogan.results.leaving import REPORT
from fastinfogan.results.run_config import read_config
from fastinfogan.results.summary import read_summary
from fastinfogan.sizes import counted
from fastinfogan.training.average import Average
from fastinfogan.training.checkpoint import (
    check_fits,
    list_checkpoints,
    load_newest,
    restore_engine_state,
)
from fastinfogan.training.metrics import Window


class Standing(NamedTuple):
    """Where a run stands when a session begins.

    Attributes:
        iteration: iterations done.
        seconds: spent on them.
        window_count: how many of them are summed up since the last line of metrics.
        damaged: newer checkpoints, and what is wrong with each.
        notes: what isn't as it was, in lines for the user.
    """

    iteration: int = 0
    seconds: float = 0.0
    window_count: int = 0
    damaged: tuple[tuple[Path, str], ...] = ()
    notes: tuple[str, ...] = ()


def continued_config(folder: Path, config: TrainConfig | None) -> TrainConfig:
    """The resolved configuration with which the run in ``folder`` goes on.

    Args:
        folder: the run directory.
        config: what is asked for; None is the run's own.

    Raises:
        UserError: there is no run, or something asked for would make it another run.
    """
    saved = read_config(folder)
    if config is not None and (name := other_experiment(saved, config)) is not None:
        raise _cannot_change(folder, name, saved, config)
    config = resolve(config) if config is not None else saved
    if config.run.out not in (None, saved.run.out, folder):
        raise UserError(f"--out {config.run.out}: a continued run stays in {folder}; leave it out")
    config = replace(config, run=replace(config.run, out=folder))
    for name in differences(saved, config):
        if name not in saved.resumable_changes:
            raise _cannot_change(folder, name, saved, config)
    return config


def is_finished(folder: Path, config: TrainConfig) -> bool:
    """Whether a run has left its summary after as many iterations as are asked for.

    Args:
        folder: the run directory.
        config: what is asked for; an unresolved one may leave that to the run.
    """
    saved = read_config(folder)
    wanted = config.optim.iterations or saved.optim.iterations
    return read_summary(folder, saved, wanted) is not None


def _cannot_change(folder: Path, name: str, saved: TrainConfig, wanted: TrainConfig) -> UserError:
    before, after = differences(saved, wanted)[name]
    flag = flag_of(name)
    return UserError(
        f"{flag} {after}: the run in {folder} was started with {before}, and {name} can't "
        f"change on the way; leave {flag} out or start a new run"
    )


def restore(
    out: Path,
    config: TrainConfig,
    data: ImageData,
    engine: Engine,
    average: Average,
    window: Window,
) -> Standing:
    """Put the newest usable checkpoint into ``engine``, ``average`` and ``window``.

    A run that ended before its first checkpoint begins anew, from the same seed.

    Raises:
        UserError: the checkpoint is of other settings or images, or nothing is left to do.
    """
    folder = out / "checkpoints"
    if not list_checkpoints(folder):
        if (out / "summary.json").exists():  # training it again would replace what is there
            raise UserError(
                f"--resume {out}: the run was finished, but its checkpoints are gone; start a new "
                "run with --out"
            )
        return Standing()
    state, progress, origin, damaged = load_newest(folder)
    check_fits(progress, config, folder)
    same_images = progress.data_fingerprint == data.fingerprint
    # Of images that are decoded while training a sample has its pixels from the decoder, too.
    if not same_images and ("files" not in origin or origin["files"] != data.origin.get("files")):
        where = config.data.data_dir
        flag = f"--dataset {config.data.dataset}" if where is None else f"--data-dir {where}"
        raise UserError(
            f"{flag}: its {counted(data.total, 'image')} are not the images that the run in {out} "
            f"was started with: their {data.told_apart_by} differ; put back what was there, or "
            "start a new run with --out"
        )
    wanted, done = config.optim.iterations, progress.iteration
    # A run that was cut short after its last iteration still has to be finished, and so has one of
    # a version without a report.
    whole = (out / REPORT).exists() and read_summary(out, config, done) is not None
    if done > wanted or (done == wanted and whole):
        if done == wanted:
            raise UserError(
                f"--resume {out}: the run is finished, with {counted(done, 'iteration')}; "
                "--iterations with more of them goes on"
            )
        raise UserError(f"--iterations {wanted}: the run in {out} has done {done}; ask for more")
    window.sums.copy_(state.pop("window"))
    restore_engine_state(engine, state)
    average.restore(state)
    return Standing(
        progress.iteration, progress.seconds, progress.window_count, tuple(damaged),
        _decoded_otherwise(origin.get("decoder"), data.origin.get("decoder"), same_images),
    )  # fmt: skip


def _decoded_otherwise(before: str | None, now: str | None, same_images: bool) -> tuple[str, ...]:
    """That images have other pixels from here on, in a line, or none."""
    if before is None or (before == now and same_images):
        return ()
    what = f"images are decoded by {now} from here on, and were by {before}"
    if before == now:
        what = f"images are decoded by another version of {now} from here on"
    return (f"{what}: pixels differ slightly, and the run from what it would have been",)
