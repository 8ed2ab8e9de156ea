"""What all ranks of a run must have in common: a batch to share, settings, images, the state."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from fastinfogan.config import TrainConfig, flag_of
from fastinfogan.config.serialization import flattened
from fastinfogan.data import ImageData
from fastinfogan.engine.build import Engine
from fastinfogan.engine.step import FastEngine
from fastinfogan.errors import UserError
from fastinfogan.model.weights import weights
from fastinfogan.ranks.alone import Ranks
from fastinfogan.training.average import Average
from fastinfogan.training.metrics import Window

# What each rank may have of its own; only the first looks at --out.
_OWN = {"data.data_dir", "run.device", "run.out"}
_IMAGES, _TEST, _FACTORS = "images", "images to evaluate on", "factors"


def check_asked(
    config: TrainConfig | None, resume: Path | str | None, or_start: bool, ranks: Ranks
) -> None:
    """Refuse ranks of which some would begin a run and others go on with one, or say where.

    They would wait for each other at different points.

    Args:
        config, resume, or_start: as for ``trainer.train``.
        ranks: all of them.

    Raises:
        UserError: they would.
    """
    own = {"--resume": resume is not None, "--or-start": or_start}
    if resume is None:
        own["--out"] = config is not None and config.run.out is not None
    first, *others = ranks.everyone(own)
    for rank, other in enumerate(others, 1):
        for flag, given in first.items():
            if other[flag] != given:
                has, lacks = (0, rank) if given else (rank, 0)
                raise UserError(
                    f"{flag}: rank {has} has it and rank {lacks} hasn't; every rank needs the same "
                    "command"
                )


def check_batch(config: TrainConfig, ranks: Ranks) -> None:
    """Refuse a batch that the ranks can't share evenly.

    Raises:
        UserError: they can't.
    """
    size, count = config.optim.batch_size, ranks.size
    if size % count:
        below = size // count * count
        works = f"{below} and {below + count} work" if below else f"{count} works"
        raise UserError(f"--batch-size {size}: {count} ranks don't divide it; {works}")
    if config.optim.contrastive > 0 and size // count % 2:
        raise UserError(
            f"--batch-size {size}: each of {count} ranks has {size // count} images of it, and "
            f"--contrastive {config.optim.contrastive:g} makes pairs of them; {size + count} works"
        )
    if config.optim.orthogonal > 0 and count > 1:
        raise UserError(
            f"--orthogonal {config.optim.orthogonal:g}: it compares samples of one process, and "
            f"this run has {count}; --orthogonal 0 works, or one process"
        )
    if count == size and not config.run.sync_batchnorm:
        raise UserError(
            f"--no-sync-batchnorm: {count} ranks have 1 image each of --batch-size {size}, which "
            f"has no variance; {2 * count} works"
        )


def check_alike(
    config: TrainConfig, device: torch.device, data: ImageData, test: ImageData, ranks: Ranks
) -> None:
    """Refuse ranks that would train, or evaluate, different things.

    Args:
        config: resolved.
        device: of this rank.
        data, test: the images to train on, and to evaluate on.
        ranks: all of them.

    Raises:
        UserError: they would: their settings, versions or images differ.
    """
    if ranks.size == 1:
        return
    own: dict[str, Any] = {
        flag_of(name): value for name, value in flattened(config).items() if name not in _OWN
    }
    own |= {"device": device.type, "decoder of images": data.origin.get("decoder")}
    own |= {_IMAGES: data.fingerprint, _TEST: test.fingerprint}
    own[_FACTORS] = None if test.factors is None else crc32(test.factors.tobytes())
    own |= {name: version(name) for name in ("fastinfogan", "torch")}
    first, *others = ranks.everyone(own)
    for rank, other in enumerate(others, 1):
        for name, value in first.items():
            if other[name] == value:
                continue
            if name in (_IMAGES, _TEST):
                to_evaluate = " to evaluate on" * (name == _TEST)
                raise UserError(
                    f"rank {rank} has other images{to_evaluate} than rank 0: their "
                    f"{(test if name == _TEST else data).told_apart_by} differ; every rank needs "
                    "the same"
                )
            if name == _FACTORS:
                raise UserError(
                    f"rank {rank} has other factors of its images than rank 0; every rank needs "
                    "the same"
                )
            raise UserError(
                f"{name}: {value} on rank 0 and {other[name]} on rank {rank}; every rank needs the "
                "same"
            )


def share_state(engine: Engine, average: Average, window: Window, ranks: Ranks) -> None:
    """Put the first rank's weights, statistics and moments into all engines."""
    if ranks.size == 1:
        return
    ranks.copy_from_first(_state(engine, average))
    if engine.loss_scale is not None:
        scale = engine.loss_scale.state()
        ranks.copy_from_first([scale])
        engine.loss_scale.restore(scale)
    ranks.copy_from_first([window.sums])
    if isinstance(engine, FastEngine):
        engine.publish()


def share_statistics(average: Average, ranks: Ranks) -> None:
    """Give all ranks the first's running statistics, by which networks evaluate.

    Without synchronised batchnorm each has its own; those of the weights that are saved count.
    """
    for network in (average.generator, average.discriminator):
        ranks.copy_from_first(network.buffers())


def _state(engine: Engine, average: Average) -> Iterator[Tensor]:
    for has in (engine, average):
        yield from weights(has.generator).values()
        yield from weights(has.discriminator).values()
    for adam in (engine.adam_g, engine.adam_d):
        for kept in adam.state.values():
            yield from kept.values()
