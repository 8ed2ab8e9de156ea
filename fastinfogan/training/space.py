"""Room on the disk: whether a run has it when it begins, and what is said when it runs out."""

from __future__ import annotations

import errno
import math
from pathlib import Path

from fastinfogan.config import TrainConfig
from fastinfogan.engine.build import Engine
from fastinfogan.errors import UserError, why
from fastinfogan.files import free_bytes
from fastinfogan.model.weights import weights
from fastinfogan.paths import quoted
from fastinfogan.sizes import in_bytes, too_little
from fastinfogan.training.checkpoint import KEEP, list_checkpoints
from fastinfogan.training.directory import CONFIG

ROW_BYTES = 1000  # of metrics.jsonl, with TensorBoard's of the same
PICTURE_IMAGES = 128  # in a grid of samples; a traversal has about as many
BY_TIME = 250  # iterations between pictures where time decides: a guess
PACKED = 0.25  # bytes of a PNG a pixel's byte, at least
AS_TEXT = 4 / 3  # bytes of what lies in a page as base64, a byte
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_space(out: Path, config: TrainConfig, engine: Engine, done: int) -> None:
    """Refuse a run that the disk has no room for.

    Args:
        out: the run directory, whether it is there or not.
        config: resolved.
        engine: what a checkpoint holds.
        done: iterations of the run that are done.

    Raises:
        UserError: it has none.
    """
    checkpoint = _checkpoint_bytes(engine, config.optim.average > 0)
    left = config.optim.iterations - done
    there = min(KEEP, len(list_checkpoints(out / "checkpoints")))
    sample_every = BY_TIME if config.run.sample_every is None else config.run.sample_every
    pictures = left // sample_every if sample_every else 0
    picture = PACKED * PICTURE_IMAGES * math.prod(config.architecture.image_shape)
    needed = round(
        (KEEP + 1 - there) * checkpoint  # one is written before another goes
        + (1 + AS_TEXT) * sum(t.nbytes for t in weights(engine.generator).values())
        + left // config.run.log_every * ROW_BYTES
        + (pictures + 1 + AS_TEXT) * (1 + len(config.spec.codes)) * picture
    )
    free = free_bytes(out)
    if free is not None and free < needed:
        raise UserError(
            f"{'--resume' if done else '--out'} {out}: its disk has {too_little(free, needed)} "
            f"({in_bytes(checkpoint)} a checkpoint); free space"
            + ("" if done else ", or choose a folder on another disk with --out")
        )


def unwritable(out: Path, error: OSError) -> UserError:
    """What to tell the user when a file of a run can't be written: what is safe, how to go on."""
    problem = f"{error.filename or out} can't be written ({why(error)})"
    if not (out / CONFIG).exists():
        return UserError(f"{problem}; nothing was begun: free space, or choose another --out")
    kept = list_checkpoints(out / "checkpoints")
    safe = f"all up to {kept[0].stem} is safe" if kept else "there is no checkpoint yet"
    first = "free space, then" if error.errno in _FULL else "mend that, then"
    return UserError(f"{problem}; {safe}; {first} fastinfogan train --resume {quoted(out)}")


def _checkpoint_bytes(engine: Engine, averaged: bool) -> int:
    networks = (engine.generator, engine.discriminator)
    learning = sum(t.nbytes for network in networks for t in weights(network).values())
    moments = 2 * sum(p.nbytes for network in networks for p in network.parameters())
    return learning * (2 if averaged else 1) + moments
