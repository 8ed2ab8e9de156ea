"""Running one subject: its engine and what an iteration draws, and whether its losses are right."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from tolerances import BENCH_LONG_SUM, EPS, HALF_ROUNDINGS, SAME_DTYPE_FACTOR

from bench.subjects import REFERENCE, Subject, all_subjects
from fastinfogan.config import TrainConfig, preset_config
from fastinfogan.data import ImageData
from fastinfogan.data.feeds.feed import Batches
from fastinfogan.data.feeds.resident import ResidentFeed
from fastinfogan.device import wait
from fastinfogan.engine.build import build_engine
from fastinfogan.engine.draws import Draws, fill_of
from fastinfogan.engine.graph import Captured, Eager
from fastinfogan.plan import Plan, are_small, make_plan
from fastinfogan.training.average import Average
from fastinfogan.training.metrics import Window


def config_of(preset: str, tiny: bool) -> TrainConfig:
    """The configuration of a preset.

    Args:
        preset: its name.
        tiny: take narrow-NAME instead (see tests/narrow.py), which must be there, on 8 images.
    """
    config = preset_config(preset)
    if not tiny:
        return config
    return replace(
        config,
        model=replace(config.model, preset=f"narrow-{preset}"),
        optim=replace(config.optim, batch_size=8),
    )


class Runner:
    """A subject's engine and all that an iteration needs, put together as the trainer does it.

    Args:
        subject: what runs.
        config: a resolved configuration; the subject's ``run`` goes before its own.
        device: where it runs.
        dtype: of weights and draws; float64, for comparisons, leaves out half precision.

    Attributes:
        told: what the user would have been told, such as why there are no CUDA graphs.
        sums: D loss, G loss and the codes' NLLs, summed over the iterations so far.
    """

    def __init__(
        self,
        subject: Subject,
        config: TrainConfig,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        config = replace(config, run=replace(config.run, **dict(subject.run)))
        run = replace(config.run, device=str(device))
        plan = make_plan(run, small=are_small(config))
        parts = dict(subject.parts)
        if dtype != torch.float32:
            plan, parts["dtype"] = replace(plan, half=None), dtype
        engine = build_engine(config, plan, **parts)
        if subject.prepare is not None:
            subject.prepare(engine)
        draws = draws_of(config, device, plan.input_dtype if dtype == torch.float32 else dtype)
        window = Window(config.spec, device, config.optim.extra_losses)
        if subject.around is contextlib.nullcontext:  # within another all would not draw alike
            draws.beside(engine)
            window.beside(engine)
        self.sums = window.sums
        self.told: list[str] = []

        def iterate() -> None:
            batch = draws.next()  # all subjects draw alike
            with subject.around():
                losses = engine.step(batch)
            window.add(losses)

        self._average, self._done = Average(engine, config.optim.average), 0
        self._iterations = Eager(iterate, None, self.told.append)
        if plan.graphs:
            one_stream = engine.keep_to_one_stream
            self._iterations = Captured(
                iterate, None, self.told.append, keep_to_one_stream=one_stream
            )

    def run(self, count: int) -> None:
        """Run ``count`` iterations; on a GPU this returns before they are done."""
        end = self._done + count
        while self._done < end:
            until = self._average.until_next(self._done)
            step = end - self._done if until is None else min(until, end - self._done)
            self._iterations.run(step)
            self._done += step
            if step == until:
                self._average.update(self._done)


def timed(runner: Runner, count: int, device: torch.device) -> tuple[float, float]:
    """Run ``count`` iterations.

    Returns:
        The seconds that one of them took, and those after which the host was free.
    """
    wait(device)
    began = time.perf_counter()
    runner.run(count)
    host = time.perf_counter() - began
    wait(device)
    return (time.perf_counter() - began) / count, host / count


def draws_of(config: TrainConfig, device: torch.device, dtype: torch.dtype) -> Draws:
    """Latents of ``dtype``, and batches of random images that are resident on the device."""
    output_range = config.architecture.output_range
    batches = Batches(config.optim.batch_size, 0, output_range, device, dtype)
    data = data_of(config)
    fill = fill_of(data, output_range, device)
    return Draws(config, ResidentFeed(data, batches), dtype, fill)


def data_of(config: TrainConfig) -> ImageData:
    """Random images, two batches of them."""
    channels, height, width = config.architecture.image_shape
    shape = (2 * config.optim.batch_size, height, width, channels)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return ImageData("random", images, None, None)


def _doubled(drawn: Any) -> Any:
    """A batch, or a part of it, in float64; what isn't there stays so."""
    if isinstance(drawn, tuple):
        return type(drawn)(*map(_doubled, drawn))
    return None if drawn is None else drawn.double()


class Parity:
    """The losses of the first iteration, before any update: what float64 says they are.

    Args:
        config: resolved.
        device: where the subjects run.
        amp_dtype: what --amp-dtype was given.
    """

    def __init__(self, config: TrainConfig, device: torch.device, amp_dtype: str = "auto") -> None:
        self._config, self._device = config, device
        self._plain = {subject.name: subject for subject in all_subjects(device, amp_dtype)}
        config = replace(config, run=replace(config.run, **dict(REFERENCE)))
        engine = build_engine(config, Plan(device))
        engine.generator.double()
        engine.discriminator.double()
        batch = draws_of(config, device, torch.float32).next()
        exact = engine.step(_doubled(batch))
        self._exact = {"d_loss": exact.d_loss, "nll": exact.nll}
        self._allowed: dict[str, dict[str, float]] = {}

    def check(self, subject: Subject, sums: Sequence[float], half: torch.dtype | None) -> None:
        """Hold what a subject summed up over its first iteration against float64's losses.

        A subject's error may be twice as large as that of the plain reference in the same precision
        (see SAME_DTYPE_FACTOR), and where that is exact by luck, twice the typical error.

        Args:
            subject: what ran.
            sums: ``Runner.sums`` after one iteration.
            half: the type in which a subject with ``amp`` computes.

        Raises:
            AssertionError: the error is larger.
        """
        if subject.amp:
            plain, rounding = "reference-autocast", HALF_ROUNDINGS * EPS[half]
        elif subject.tf32:  # as many bits as float16
            plain, rounding = "reference-tf32", HALF_ROUNDINGS * EPS[torch.float16]
        else:
            plain, rounding = "reference", BENCH_LONG_SUM
        allowed = self._reference_errors(plain)
        for name, error in self._errors(sums).items():
            largest = self._exact[name].abs().max().item()
            limit = SAME_DTYPE_FACTOR * (allowed[name] + rounding * largest)
            assert error <= limit, f"{subject.name}: {name} is off by {error:.3g} > {limit:.3g}"

    def _reference_errors(self, plain: str) -> dict[str, float]:
        if plain not in self._allowed:
            runner = Runner(self._plain[plain], self._config, self._device)
            runner.run(1)
            self._allowed[plain] = self._errors(runner.sums.tolist())
        return self._allowed[plain]

    def _errors(self, sums: Sequence[float]) -> dict[str, float]:
        codes = len(self._config.spec.codes)
        got = torch.tensor(sums, dtype=torch.float64, device=self._device)
        got = {"d_loss": got[0], "nll": got[2 : 2 + codes]}
        return {name: (got[name] - exact).abs().max().item() for name, exact in self._exact.items()}
