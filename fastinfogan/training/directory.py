"""Where a run goes: its directory's name, and mistakes in ``--out``."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from fastinfogan.errors import UserError


@contextlib.contextmanager
def named_out(path: Path) -> Iterator[None]:
    """What the system says of the run directory, as a mistake in --out."""
    try:
        yield
    except OSError as error:
        raise UserError(f"--out {path} can't be made: {error.strerror}") from None


def refuse_existing(out: Path) -> None:
    with named_out(out):
        if out.exists():
            raise UserError(
                f"--out {out} exists already; choose another, or continue a run with --resume"
            )


def default_out(dataset: str) -> Path:
    stem = Path("runs") / f"{dataset}-{datetime.now():%Y%m%d-%H%M%S}"
    return next(
        path
        for n in itertools.count(1)
        if not (path := stem if n == 1 else stem.with_name(f"{stem.name}-{n}")).exists()
    )
