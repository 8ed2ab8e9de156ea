"""The training loop: status, pictures, checkpoint, step; and what a finished run leaves behind."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from fastinfogan.checkpoint import (
    Progress,
    list_checkpoints,
    load_engine_state,
    load_newest,
    save_checkpoint,
    set_aside,
)
from fastinfogan.config import RESUMABLE_CHANGES, TrainConfig, differences, resolve, to_dict
from fastinfogan.data import ImageData, Split, find_dataset, load_images
from fastinfogan.data.feed import open_feed
from fastinfogan.errors import TrainingDiverged, UserError
from fastinfogan.files import atomic_write
from fastinfogan.metrics import MetricsLog, Window
from fastinfogan.networks import initialize
from fastinfogan.reference import ReferenceEngine
from fastinfogan.run import Run, read_config, read_summary
from fastinfogan.status import open_status
from fastinfogan.step import Batch, FastEngine, Losses


def train(config: TrainConfig | None = None, resume: Path | str | None = None) -> Run:
    """Train an InfoGAN, or go on with a run, and return the finished (or interrupted) run.

    Args:
        config: what to train; None means the defaults, or, with ``resume``, the run's own. With
            ``resume``, fields outside ``config.RESUMABLE_CHANGES`` must equal the run's.
        resume: a run directory to continue from its newest usable checkpoint.

    Returns:
        The run, with ``interrupted`` set if SIGINT or SIGTERM ended it early.

    Raises:
        UserError: something asked for can't work; no directory has been made.
        TrainingDiverged: a loss became NaN or infinite; the last good checkpoint is kept.
    """
    if resume is None:
        config = resolve(config or TrainConfig())
        return _Training(config, resumed=False).run()
    folder = Path(resume)
    saved = read_config(folder)
    config = resolve(config) if config is not None else saved
    if config.run.out not in (None, saved.run.out, folder):
        raise UserError(f"--out {config.run.out}: a continued run stays in {folder}; leave it out")
    config = replace(config, run=replace(config.run, out=folder))
    for name, (before, after) in differences(saved, config).items():
        if name not in RESUMABLE_CHANGES:
            flag = "--" + name.split(".")[1].replace("_", "-")
            raise UserError(
                f"{flag} {after}: the run in {folder} was started with {before}, and {name} can't "
                f"change on the way; leave {flag} out or start a new run"
            )
    return _Training(config, resumed=True).run()


def pick_device(name: str) -> torch.device:
    """The device that ``--device`` names; ``auto`` is the first GPU, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {name!r}: auto, cpu, cuda and cuda:N work")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        there = f"cuda:0 to cuda:{count - 1} are there" if count else "this machine shows no GPU"
        raise UserError(f"--device {name!r} isn't there: {there}; cpu works")
    return device


def build_engine(config: TrainConfig, device: torch.device) -> FastEngine | ReferenceEngine:
    """The engine of a resolved configuration, its weights fixed by the seed."""
    if device.type == "cuda":
        # The same run twice gives the same bits, and "float32" means float32, not TF32.
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False
    kind = FastEngine if config.run.engine == "fast" else ReferenceEngine
    engine = kind(config, device)
    random = torch.Generator().manual_seed(config.run.seed)
    initialize(engine.generator, config.architecture, random)
    initialize(engine.discriminator, config.architecture, random)
    return engine


class Draws:
    """The inputs of every iteration: real images and latents, functions of the iteration alone."""

    def __init__(self, config: TrainConfig, data: ImageData, device: torch.device) -> None:
        self.spec, self.seed, self.device = config.spec, config.run.seed, device
        self.size = config.optim.batch_size
        self.per_iteration = 2 if config.optim.update == "alternating" else 1
        self.feed = open_feed(
            data, self.size, self.seed, config.architecture.output_range, device,
            config.run.resident,
        )  # fmt: skip

    def batch(self, iteration: int) -> Batch:
        """What iteration number ``iteration`` (from 0) consumes."""
        latents = [
            self.spec.sample(self.size, self.seed, self.latent_offset(iteration) + i * self.size,
                             self.device)
            for i in range(self.per_iteration)
        ]  # fmt: skip
        latents_g = latents[1] if self.per_iteration == 2 else None
        return Batch(self.feed.batch(iteration), latents[0], latents_g)

    def latent_offset(self, iteration: int) -> int:
        """Latent samples drawn before ``iteration``."""
        return iteration * self.per_iteration * self.size


class _Training:
    """One session of training a run.

    Everything that can be refused is refused on construction, before a directory is made.
    """

    def __init__(self, config: TrainConfig, resumed: bool) -> None:
        self.config, self.resumed = config, resumed
        self.device = pick_device(config.run.device)
        self.out = config.run.out or _default_out(config.data.dataset)
        with _named_out(self.out):
            if not self.resumed and self.out.exists():
                raise UserError(
                    f"--out {self.out} exists already; choose another, or continue a run with "
                    "--resume"
                )
        data, size = config.data, config.optim.batch_size

        def load(split: Split) -> ImageData:
            return load_images(
                data.dataset, data.data_dir, split, data.image_size, data.channels,
                allow_bad=data.allow_bad,
            )  # fmt: skip

        self.data = self.test = load("train")
        if find_dataset(data.dataset).has_test_split:  # now, not after hours of training
            self.test = load("test")
        if size > len(self.data):
            raise UserError(
                f"--batch-size {size}: {data.dataset} has only {len(self.data)} images; "
                f"2 to {len(self.data)} work"
            )
        self.engine = build_engine(config, self.device)
        self.draws = Draws(config, self.data, self.device)
        self.window = Window(config.spec, self.device)
        self.iteration, self.seconds_before = 0, 0.0
        self.damaged: list[tuple[Path, str]] = []
        if self.resumed:
            self._restore()

    def _restore(self) -> None:
        folder = self.out / "checkpoints"
        if not list_checkpoints(folder):
            return  # ended before its first checkpoint: the seed holds all there is to know
        state, progress, self.damaged = load_newest(folder)
        if progress.config_fingerprint != self.config.fingerprint():
            raise UserError(f"{folder}: its checkpoints are of another config.json")
        if progress.data_fingerprint != self.data.fingerprint:
            raise UserError(
                f"--data-dir {self.config.data.data_dir}: these are not the images that the run in "
                f"{self.out} was started with"
            )
        wanted, done = self.config.optim.iterations, progress.iteration
        # A run that was cut short after its last iteration still has to be finished.
        summary = read_summary(self.out)
        if done > wanted or (summary is not None and summary["iterations"] == done == wanted):
            raise UserError(
                f"--iterations {wanted}: the run in {self.out} has done {done}; ask for more"
            )
        self.window.restore(state.pop("window"), progress.window_count)
        load_engine_state(self.engine, state)
        self.iteration, self.seconds_before = progress.iteration, progress.seconds

    def run(self) -> Run:
        config = replace(self.config, run=replace(self.config.run, out=self.out))
        with _named_out(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
            content = json.dumps(to_dict(config), indent=2).encode()
            atomic_write(self.out / "config.json", content)
        for path, _ in self.damaged:
            set_aside(path)
        run = Run(self.out, config, self.engine.generator, self.engine.discriminator)
        settings, total, saved_at = config.run, config.optim.iterations, self.iteration
        with (
            MetricsLog(self.out, config, keep_until=self.iteration) as log,
            open_status(total, self.iteration) as status,
            _Signals() as signals,
        ):
            clock = _Clock(self.seconds_before, self.iteration)
            for line in (*self._introduction(), *filter(None, [log.note])):
                status.line(line)
            while True:
                run.iteration = self.iteration
                finished = self.iteration == total
                stopping = finished or signals.received is not None
                if self.window.count and (finished or self.iteration % settings.log_every == 0):
                    row = {**self._means(), **clock.lap(self.iteration, config.optim.batch_size)}
                    self.window.reset()
                    log.write(row)
                    status.metrics(row)
                    if (note := self.draws.feed.note()) is not None:
                        status.line(note)
                with clock.paused():
                    if not stopping and self._due(settings.sample_every):
                        run.save_pictures(self.out / "pictures", f"_{self.iteration:08d}")
                    due = stopping or self._due(settings.checkpoint_every)
                    if due and self.iteration > saved_at:
                        self._save(clock)
                        saved_at = self.iteration
                if stopping:
                    break
                self.window.add(self._step())
                self.iteration += 1
                status.advance(self.iteration)
            if not finished:
                run.interrupted = signals.received
                status.line(
                    f"stopped by {signals.received.name} after iteration {self.iteration} of "
                    f"{total}; continue with: fastinfogan train --resume {self.out}"
                )
                return run
            status.line("trained; evaluating and drawing (if stopped here, --resume does it again)")
        run.finish(self.test, seconds=clock.total, device=describe_device(self.device))
        return run

    def _due(self, every: int) -> bool:
        return every > 0 and self.iteration > 0 and self.iteration % every == 0

    def _step(self) -> Losses:
        try:
            return self.engine.step(self.draws.batch(self.iteration))
        except (MemoryError, RuntimeError) as error:
            # The CPU's allocator raises a plain RuntimeError, and says no more than this.
            if not isinstance(error, MemoryError | torch.OutOfMemoryError) and (
                "can't allocate memory" not in str(error)
            ):
                raise
            size = self.config.optim.batch_size
            raise UserError(
                f"--batch-size {size}: {self.device} has too little memory; try {size // 2}"
            ) from None

    def _means(self) -> dict[str, Any]:
        """The mean metrics since the last log line, all of them finite."""
        means = {"iteration": self.iteration, **self.window.means()}
        for name in ("d_loss", "g_loss", "mi"):
            if not math.isfinite(means[name]):
                kept = list_checkpoints(self.out / "checkpoints")
                raise TrainingDiverged(
                    f"iteration {self.iteration}: {name} is {means[name]}; "
                    + (f"the last good checkpoint is {kept[0]}" if kept else "no checkpoint yet")
                    + "; start a new run with lower --lr-g and --lr-d, or a lower --lambda-cont "
                    "where sigma is learned"
                )
        return means

    def _save(self, clock: _Clock) -> None:
        if self.window.count:
            self._means()
        save_checkpoint(
            self.out / "checkpoints",
            self.engine,
            self.window.sums,
            Progress(
                iteration=self.iteration,
                seed=self.config.run.seed,
                data_position=self.iteration * self.config.optim.batch_size,
                latent_offset=self.draws.latent_offset(self.iteration),
                window_count=self.window.count,
                seconds=clock.total,
                config_fingerprint=self.config.fingerprint(),
                data_fingerprint=self.data.fingerprint,
            ),
        )

    def _introduction(self) -> list[str]:
        config = self.config
        shape = "x".join(map(str, self.data.image_shape))
        lines = [
            f"{len(self.data):,} {shape} images of {config.data.dataset}; preset "
            f"{config.model.preset}, codes {config.model.codes}, noise {config.model.noise}",
            f"{config.run.engine} engine on {describe_device(self.device)}; "
            f"{self.draws.feed.summary}",
            f"run directory {self.out}",
        ]
        if self.data.skipped:
            names = ", ".join(repr(name) for name, _ in self.data.skipped[:3])
            lines.append(f"files skipped: {len(self.data.skipped)} ({names})")
        if self.resumed:
            lines.append(f"continuing after iteration {self.iteration}")
        return [note for _, note in self.damaged] + lines


class _Clock:
    """Seconds spent in a run, of all its sessions, and the speed of training alone."""

    def __init__(self, before: float, iteration: int) -> None:
        now = time.monotonic()
        self._origin, self._lap, self._started_at = now - before, now, iteration

    @property
    def total(self) -> float:
        """Seconds in all."""
        return time.monotonic() - self._origin

    def lap(self, iteration: int, batch_size: int) -> dict[str, float]:
        """``images_per_s`` since the last lap, pauses left out, and ``seconds`` in all."""
        now = time.monotonic()
        seconds, self._lap = now - self._lap, now
        images = (iteration - self._started_at) * batch_size
        self._started_at = iteration
        return {"images_per_s": round(images / seconds, 1), "seconds": round(self.total, 2)}

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        before = time.monotonic()
        yield
        self._lap += time.monotonic() - before


class _Signals:
    """Remembers the first SIGINT or SIGTERM, so that the loop can save and stop.

    A second one acts as usual. Signals reach only the main thread: elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())

    def __exit__(self, *exception: object) -> None:
        self._restore()


@contextlib.contextmanager
def _named_out(path: Path) -> Iterator[None]:
    """What the system says of the run directory, as a mistake in --out."""
    try:
        yield
    except OSError as error:
        raise UserError(f"--out {path} can't be made: {error.strerror}") from None


def describe_device(device: torch.device) -> str:
    """One phrase: which device, in which arithmetic."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, float32"
    threads = torch.get_num_threads()
    return f"the CPU with {threads} thread{'s' if threads > 1 else ''}, float32"


def _default_out(dataset: str) -> Path:
    stem = Path("runs") / f"{dataset}-{datetime.now():%Y%m%d-%H%M%S}"
    return next(
        path
        for n in itertools.count(1)
        if not (path := stem if n == 1 else stem.with_name(f"{stem.name}-{n}")).exists()
    )
