"""Where a run goes: its directory, claimed by one process, and mistakes in ``--out``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from fastinfogan.config import TrainConfig
from fastinfogan.errors import UserError, why
from fastinfogan.files import new_folder, remove_leftovers, sync_folder
from fastinfogan.lock import Held, exclusive, holder, lock_files
from fastinfogan.tell import Tell

CONFIG, LOCK = "config.json", ".lock"


def refuse_existing(out: Path) -> None:
    """Refuse a path that can't become a run directory.

    A folder in which nothing was begun can: it is empty, or was killed before config.json was
    written.

    Raises:
        UserError: something is there, or another process begins a run there.
    """
    try:
        taken = out.exists() and not (out.is_dir() and is_unbegun(out))
    except OSError as error:
        raise _cannot_be_made(out, error) from None
    if out.is_dir() and (owner := holder(out / LOCK)) is not None:
        raise UserError(f"--out {out}: {owner} is training a run there; choose another")
    if taken:
        raise _exists(out)


def is_unbegun(folder: Path, first: str = CONFIG) -> bool:
    """Whether nothing is in a folder but what a process leaves that ends before it has begun.

    Args:
        folder: of a run or a study.
        first: the file that is written first; with it, it has begun.
    """
    own = {path.name for path in lock_files(folder / LOCK)}
    return all(
        path.name in own or (path.name.startswith(f".{first}.") and path.suffix == ".tmp")
        for path in folder.iterdir()
    )


def started_in(folder: Path, config: TrainConfig | None) -> TrainConfig:
    """What to start where ``--resume FOLDER --or-start`` finds no run.

    Raises:
        UserError: another folder is asked for as well.
    """
    config = config or TrainConfig()
    if config.run.out not in (None, folder):
        raise UserError(
            f"--out {config.run.out}: with --or-start the run is in {folder}; leave it out"
        )
    return replace(config, run=replace(config.run, out=folder))


@contextlib.contextmanager
def claimed(out: Path | None, dataset: str, tell: Tell) -> Iterator[Path]:
    """Make a run directory, and hold it while the run trains.

    Args:
        out: where; None: a folder in runs/ named after dataset and time, which no one else gets.
        dataset: the name in it.
        tell: gets a line if there is something to say.

    Returns:
        The directory. If no run was begun in it, it goes at the end.

    Raises:
        UserError: it can't be made, or isn't there for this process alone.
    """
    stem = Path("runs") / f"{dataset}-{datetime.now():%Y%m%d-%H%M%S}"
    folder = out or stem
    with contextlib.ExitStack() as stack:
        try:
            made = out is None or not out.exists()
            if out is None:
                folder = new_folder(stem)
            else:
                folder.mkdir(parents=True, exist_ok=True)
                sync_folder(folder.parent)
            stack.callback(_remove_unbegun, folder, made)
            stack.enter_context(exclusive(folder / LOCK, tell))
        except Held as other:
            stack.pop_all()  # what is there is the other's
            raise UserError(
                f"--out {folder}: {other} is training a run there; choose another"
            ) from None
        except OSError as error:
            raise _cannot_be_made(folder, error) from None
        if not is_unbegun(folder):
            raise _exists(folder)
        remove_leftovers(folder)
        yield folder


@contextlib.contextmanager
def held(folder: Path, tell: Tell) -> Iterator[None]:
    """Hold the directory of a run that goes on, and remove what a killed session left there.

    Args:
        folder: a run directory.
        tell: gets a line if there is something to say.

    Raises:
        UserError: another process trains the run, or nothing can be written there.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(exclusive(folder / LOCK, tell))
            for path in (folder, folder / "pictures", folder / "checkpoints"):
                remove_leftovers(path)
        except Held as other:
            raise UserError(
                f"--resume {folder}: {other} is training this run; let it end, or stop it first"
            ) from None
        except OSError as error:
            raise UserError(f"--resume {folder} can't be written to: {why(error)}") from None
        yield


def _exists(out: Path) -> UserError:
    return UserError(f"--out {out} exists already; choose another, or continue a run with --resume")


def _cannot_be_made(out: Path, error: OSError) -> UserError:
    return UserError(f"--out {out} can't be made: {why(error)}")


def _remove_unbegun(folder: Path, made: bool) -> None:
    with contextlib.suppress(OSError):
        if is_unbegun(folder):
            remove_leftovers(folder)
            for path in lock_files(folder / LOCK):
                path.unlink(missing_ok=True)
            if made:
                folder.rmdir()
