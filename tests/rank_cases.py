"""Runs the engine on one of several ranks, or alone; started as a program it is one rank.

python rank_cases.py FOLDER      in the environment that torchrun makes
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from engine_cases import tiny
from narrow import narrow_presets
from rank_places import places
from safetensors.torch import save_file

from fastinfogan.data import ImageData
from fastinfogan.data.factors import Factor
from fastinfogan.data.feeds.feed import Batches
from fastinfogan.data.feeds.open_feed import open_feed
from fastinfogan.engine.build import build_engine
from fastinfogan.engine.draws import Draws, fill_of
from fastinfogan.plan import make_plan
from fastinfogan.ranks.alone import Ranks
from fastinfogan.ranks.joining import joined
from fastinfogan.results.evaluate import evaluate, evaluate_briefly
from fastinfogan.training.alike import share_statistics
from fastinfogan.training.average import EVERY, Average
from fastinfogan.training.checkpoint import engine_state

ITERATIONS = 12  # more than pairs' gap lasts, and than lie between two updates of an average
PRESETS = ("mnist", "celeba", "chairs-rotation", "mnist-mlp", "digits")


def cases():
    """Name -> configuration; ``narrow_presets`` must be there."""
    found = {}
    for preset in PRESETS:
        for update in ("alternating", "simultaneous"):
            found[f"{preset}-{update}"] = tiny(preset, update=update)
    for update in ("alternating", "simultaneous"):  # of pairs a rank needs an even share
        optim = {"update": update, "contrastive": 0.6, "gap_until": 7}
        found[f"pairs-{update}"] = tiny("mnist", batch=8, **optim)
    # Digits of the default preset, with all that it adds to the paper's.
    assert found["digits-alternating"].optim.augment and found["digits-alternating"].optim.average
    return found


def trained(config, ranks: Ranks, **run) -> dict[str, torch.Tensor]:
    """Losses of every iteration, and all that a checkpoint would hold after the last, in float64.

    Args:
        config: resolved.
        ranks: that train it; the losses are the mean of theirs.
        run: other settings of the run.
    """
    config = replace(config, run=replace(config.run, device="cpu", **run))
    plan = make_plan(config.run, ranks)
    engine = build_engine(config, plan, dtype=torch.float64)
    average = Average(engine, config.optim.average)
    shape, output_range = config.architecture.image_shape, config.architecture.output_range
    images = np.random.default_rng(0).integers(0, 256, (50, *shape[1:], shape[0]), np.uint8)
    data = ImageData("random", images, None, None)
    size = config.optim.batch_size
    batches = Batches(size, 0, output_range, plan.device, torch.float64, ranks.rank, ranks.size)
    feed = open_feed(data, batches)
    fill = fill_of(data, output_range, plan.device)
    draws = Draws(config, feed, torch.float64, fill, batches.slice)
    draws.seek(0)
    losses = []
    for iteration in range(1, ITERATIONS + 1):
        found = engine.step(draws.next())
        losses.append(torch.cat([loss.view(-1) for loss in found if loss is not None]))
        if config.optim.average and iteration % EVERY == 0:
            average.update(iteration)
    means = ranks.mean(torch.stack(losses))
    found = {"losses": means, **engine_state(engine), **average.state()}
    return {name: tensor.contiguous() for name, tensor in found.items()}


@contextmanager
def started(command: Sequence[str], ranks: int, cwd: Path) -> Iterator[list[subprocess.Popen]]:
    """The same command on so many ranks; those that are left are killed at the end."""
    processes = [
        subprocess.Popen(
            command, cwd=cwd, env={**os.environ, **place}, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for place in places(ranks)
    ]  # fmt: skip
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def evaluated(ranks: Ranks) -> dict[str, object]:
    """What ranks measure together, and how many images this one has shown Q.

    Each begins with running statistics of its own, as without synchronised batchnorm.
    """
    config = tiny("mnist")
    plan = make_plan(replace(config.run, device="cpu"))
    engine, output_range = build_engine(config, plan), config.architecture.output_range
    networks = engine.generator.eval(), engine.discriminator.eval()
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (90, 28, 28, 1), np.uint8)
    labels = random.integers(0, 10, 90)
    factors = np.stack([labels % 2, random.integers(0, 5, 90)], axis=1)
    rows = Factor("parity"), Factor("size", "ordered")
    data = ImageData("random", images, labels, None, factors=factors, factor_rows=rows)
    for network in networks:
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer += ranks.rank + 0.1
    share_statistics(SimpleNamespace(generator=networks[0], discriminator=networks[1]), ranks)
    seen: list[int] = []
    networks[1].register_forward_hook(lambda d, given, out: seen.append(len(given[0])))
    found = evaluate(
        *networks, config.spec, data, output_range=output_range, samples=50, batch_size=16,
        ranks=ranks,
    )  # fmt: skip
    row = evaluate_briefly(networks[1], config.spec, data, output_range, ranks)
    return {"found": json.loads(json.dumps(found.to_dict())), "row": row, "seen": seen}


def averaged(ranks: Ranks) -> list[list[float]]:
    """The mean of the ranks' numbers, sent as they are, and in bfloat16."""
    found = []
    for sent_in in (None, torch.bfloat16):
        tensor = torch.empty(1001)
        average = ranks.averaging(tensor, sent_in)
        for seed in range(2):  # the second time nothing is left of the first
            tensor.copy_(numbers(ranks.rank, seed))
            average()
        found.append(tensor.tolist())
    return found


def numbers(rank: int, seed: int = 1) -> torch.Tensor:
    """What a rank has of its own: as many as neither 2 nor 3 divides."""
    return torch.randn(1001, generator=torch.Generator().manual_seed(10 * rank + seed))


def talked(ranks: Ranks, turns: Path) -> list[object]:
    """What a rank hears when all say something; what happened in turn is in a file."""

    def work() -> int:
        for word in ("begins", "ends"):
            with open(turns, "a") as file:
                file.write(f"{ranks.rank} {word}\n")
            time.sleep(0.1)
        return ranks.rank

    return [
        ranks.everyone(f"rank {ranks.rank}"),
        ranks.most([ranks.rank, -ranks.rank]),
        ranks.first(lambda: f"of rank {ranks.rank}"),
        ranks.in_turn(work, print),
        ranks.describe(),
    ]


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with joined() as ranks, narrow_presets():
        said = talked(ranks, folder / "turns")
        (folder / f"said-{ranks.rank}.json").write_text(json.dumps(said))
        (folder / f"evaluated-{ranks.rank}.json").write_text(json.dumps(evaluated(ranks)))
        (folder / f"averaged-{ranks.rank}.json").write_text(json.dumps(averaged(ranks)))
        half = trained(cases()["mnist-alternating"], ranks, reduce_dtype="bfloat16")
        save_file(half, folder / f"bfloat16-{ranks.rank}.safetensors")
        for name, config in cases().items():
            save_file(trained(config, ranks), folder / f"{name}-{ranks.rank}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
