"""One training iteration of each engine on each kind of preset; parity is checked before timing.

pytest bench/ --benchmark-only
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tolerances import BENCH_LONG_SUM, SAME_DTYPE_FACTOR

from fastinfogan.config import TrainConfig, preset_config
from fastinfogan.data import ImageData
from fastinfogan.step import Batch
from fastinfogan.trainer import Draws, build_engine, pick_device

DEVICE = pick_device("auto")


def draws_of(config: TrainConfig) -> Draws:
    """Batches of random images."""
    channels, height, width = config.architecture.image_shape
    count = 2 * config.optim.batch_size
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    return Draws(config, ImageData("random", images, None, None), DEVICE)


def in_float64(batch: Batch) -> Batch:
    latents = [type(drawn)(*(part.double() for part in drawn)) for drawn in batch[1:]]
    return Batch(batch.real.double(), *latents)


def check_parity(config: TrainConfig, draws: Draws) -> None:
    """After one iteration the engine's losses are as near to float64's as the reference's are."""
    engines = [
        build_engine(replace(config, run=replace(config.run, engine=name)), DEVICE)
        for name in ("fast", "reference", "reference")
    ]
    truth = engines.pop()
    truth.generator.double()
    truth.discriminator.double()
    exact = truth.step(in_float64(draws.batch(0)))
    fast, reference = (engine.step(draws.batch(0)) for engine in engines)
    for name in ("d_loss", "nll"):  # before any update; the G loss comes after D's
        errors = [
            (getattr(losses, name) - getattr(exact, name)).abs().max().item()
            for losses in (fast, reference)
        ]
        # A reference that is exact by luck leaves the other the typical error of a long sum.
        spacing = BENCH_LONG_SUM * getattr(exact, name).abs().max().item()
        assert errors[0] <= SAME_DTYPE_FACTOR * (errors[1] + spacing), f"{name}: {errors}"


@pytest.mark.parametrize("engine", ["reference", "fast"])
@pytest.mark.parametrize("preset", ["mnist", "celeba", "mnist-mlp"])
def bench_iteration(benchmark, request, preset, engine):
    config = preset_config(preset)
    if request.config.getoption("--tiny"):
        config = replace(config, optim=replace(config.optim, batch_size=8))
    config = replace(config, run=replace(config.run, engine=engine))
    draws = draws_of(config)
    check_parity(config, draws)
    subject = build_engine(config, DEVICE)
    iterations = iter(range(1_000_000))

    def iterate() -> None:
        subject.step(draws.batch(next(iterations)))
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()

    benchmark.group = f"iteration, {preset}, batch {config.optim.batch_size}"
    benchmark.extra_info["images_per_iteration"] = config.optim.batch_size
    benchmark.pedantic(iterate, rounds=10, warmup_rounds=2)
