"""The training loop: status, pictures, checkpoint, step; and what a finished run leaves behind."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
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

from fastinfogan.config import RESUMABLE_CHANGES, TrainConfig, differences, resolve, to_dict
from fastinfogan.data import ImageData, Split, find_dataset, load_images
from fastinfogan.data.feeds.feed import Batches, Feed
from fastinfogan.data.feeds.open_feed import open_feed
from fastinfogan.engine.graph import Captured, Eager
from fastinfogan.engine.precision import cpu_has_bfloat16
from fastinfogan.engine.step import Batch, FastEngine, Inputs
from fastinfogan.errors import TrainingDiverged, UserError
from fastinfogan.files import atomic_write
from fastinfogan.kernels.latents import latents
from fastinfogan.model.networks import initialize
from fastinfogan.model.reference import ReferenceEngine
from fastinfogan.results.run import Run, read_config, read_summary
from fastinfogan.tell import Tell, on_stderr
from fastinfogan.training.checkpoint import (
    Progress,
    list_checkpoints,
    load_engine_state,
    load_newest,
    save_checkpoint,
    set_aside,
)
from fastinfogan.training.metrics import MetricsLog, Window
from fastinfogan.training.profile import AFTER, ITERATIONS, traced
from fastinfogan.training.status import open_status


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
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
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
    """The engine of a resolved configuration, its weights fixed by the seed.

    Raises:
        UserError: ``--amp`` on a device that can't.
    """
    if device.type == "cuda":
        if device.index is not None:  # streams, graphs and Triton go by the current device
            torch.cuda.set_device(device)
        # The same run twice gives the same bits, and "float32" means float32, not TF32.
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False
    kind = FastEngine if config.run.engine == "fast" else ReferenceEngine
    run = replace(config.run, compile=_on_gpu(config.run.compile, device))
    engine = kind(replace(config, run=run), device)
    random = torch.Generator().manual_seed(config.run.seed)
    initialize(engine.generator, config.architecture, random)
    initialize(engine.discriminator, config.architecture, random)
    if isinstance(engine, FastEngine):
        engine.publish()
    return engine


class Draws:
    """The inputs of every iteration: real images and latents, functions of the iteration alone.

    Where the next ones are drawn from is kept on the device, and moves with every draw.
    """

    def __init__(self, config: TrainConfig, feed: Feed, dtype: torch.dtype) -> None:
        self._spec, self._size, self._dtype = config.spec, config.optim.batch_size, dtype
        self._per_iteration = 2 if config.optim.update == "alternating" else 1
        self.feed, device = feed, feed.device
        self._seed = torch.tensor([config.run.seed], device=device)
        self._offset = torch.zeros(1, dtype=torch.int64, device=device)

    def seek(self, iteration: int) -> None:
        """Go to iteration number ``iteration`` (from 0)."""
        self._offset.fill_(self.latent_offset(iteration))
        self.feed.seek(iteration)

    def next(self) -> Batch:
        """What the next iteration consumes."""
        spec, size = self._spec, self._size
        drawn = [
            Inputs(
                *latents(
                    spec.noise, spec.codes, size, self._seed, self._offset, shift=i * size,
                    dtype=self._dtype,
                )
            )
            for i in range(self._per_iteration)
        ]  # fmt: skip
        self._offset += self.latent_offset(1)
        return Batch(self.feed.next(), drawn[0], drawn[1] if len(drawn) == 2 else None)

    def latent_offset(self, iteration: int) -> int:
        """Latent samples drawn before ``iteration``."""
        return iteration * self._per_iteration * self._size


class _Training:
    """One session of training a run.

    Everything that can be refused is refused on construction, before a directory is made.
    """

    def __init__(self, config: TrainConfig, resumed: bool) -> None:
        self.config, self.resumed = config, resumed
        self.device = pick_device(config.run.device)
        if config.run.cuda_graphs and self.device.type != "cuda":
            raise UserError(f"--cuda-graphs: it needs a GPU, and this run is on {self.device}")
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
        batches = Batches(
            size, config.run.seed, config.architecture.output_range, self.device,
            self.engine.input_dtype,
        )  # fmt: skip
        self.tell: Tell = on_stderr  # until there is a status display
        feed = open_feed(self.data, batches, config.run.resident, tell=lambda line: self.tell(line))
        self.draws = Draws(config, feed, self.engine.input_dtype)
        self.window = Window(config.spec, self.device)
        captured = config.run.engine == "fast" and _on_gpu(config.run.cuda_graphs, self.device)
        self.iterations = (Captured if captured else Eager)(self._iterate, feed.prepare)
        self.iteration, self.seconds_before = 0, 0.0
        self.damaged: list[tuple[Path, str]] = []
        if self.resumed:
            self._restore()
        self.draws.seek(self.iteration)
        total = config.optim.iterations
        self.trace_at = min(self.iteration + AFTER, total - 1) if config.run.profile else None

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
            self.tell = status.line
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
                draw = not stopping and self._due(settings.sample_every)
                save = stopping or self._due(settings.checkpoint_every)
                if draw or save:
                    self._wait()  # for the iterations: they are not part of the pause
                    with clock.paused():
                        if draw:
                            run.save_pictures(self.out / "pictures", f"_{self.iteration:08d}")
                        if save and self.iteration > saved_at:
                            self._save(clock)
                            saved_at = self.iteration
                if stopping:
                    break
                if self.iteration == self.trace_at:
                    count = min(ITERATIONS, self._until_next_stop())
                    self._wait()
                    with traced(self.out / "trace.json", self.device, count) as top:
                        self._advance(count)
                    for line in top:
                        status.line(line)
                else:
                    # On a CPU one by one, so that a signal is answered soon.
                    count = 1 if self.device.type == "cpu" else self._until_next_stop()
                    self._advance(count)
                if self.iterations.note:
                    status.line(self.iterations.note)
                    self.iterations.note = ""
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

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _until_next_stop(self) -> int:
        """Iterations until the loop has something else to do."""
        run, at = self.config.run, self.iteration
        ends = [
            (at // every + 1) * every
            for every in (run.log_every, run.sample_every, run.checkpoint_every)
            if every > 0
        ]
        if self.trace_at is not None and self.trace_at > at:
            ends.append(self.trace_at)
        return min(*ends, self.config.optim.iterations) - at

    def _iterate(self) -> None:
        self.window.add(self.engine.step(self.draws.next()))

    def _advance(self, count: int) -> None:
        try:
            self.iterations.run(count)
        except (MemoryError, RuntimeError) as error:
            # The CPU's allocator raises a plain RuntimeError, and says no more than this.
            if not isinstance(error, MemoryError | torch.OutOfMemoryError) and (
                "can't allocate memory" not in str(error)
            ):
                raise
            raise UserError(
                f"--batch-size {self.config.optim.batch_size}: {self.device} has too little "
                f"memory; about {_fitting_batch(self.config, self.device)} should fit"
            ) from None
        self.window.count += count
        self.iteration += count

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
            f"{config.run.engine} engine on {describe_device(self.device)}, "
            f"{_arithmetic(self.engine, config)}; {self.draws.feed.summary}",
            f"run directory {self.out}",
        ]
        if self.data.skipped:
            skipped = self.data.skipped
            names = ", ".join(repr(name) for name, _ in skipped[:3])
            more = ", ...; fastinfogan ingest names them all" if len(skipped) > 3 else ""
            lines.append(f"files skipped: {len(skipped)} ({names}{more})")
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
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"the CPU with {threads} thread{'s' if threads > 1 else ''}"


def _arithmetic(engine: FastEngine | ReferenceEngine, config: TrainConfig) -> str:
    """One phrase: what the passes compute in, and how they are run."""
    device = next(engine.generator.parameters()).device
    name = str(engine.input_dtype).removeprefix("torch.")
    if engine.input_dtype != torch.float32:
        emulated = device.type == "cpu" and not cpu_has_bfloat16()
        name = f"mixed {name} and float32" + (" (emulated: slower than float32)" * emulated)
    if config.run.engine == "fast" and _on_gpu(config.run.compile, device):
        name += ", compiled (the first iteration takes longer)"
    if config.run.engine == "fast" and _on_gpu(config.run.cuda_graphs, device):
        name += ", CUDA graphs"
    return name


def _on_gpu(wanted: bool | None, device: torch.device) -> bool:
    """A setting whose default is yes on a GPU, no elsewhere."""
    return device.type == "cuda" if wanted is None else wanted


def _fitting_batch(config: TrainConfig, device: torch.device) -> int:
    """A batch that should fit in the device's memory: a power of two below the one that doesn't.

    Counts weights, gradients and moments (20 bytes a parameter with a half-precision copy), and for
    each image the outputs of every layer, their gradients, and as much again for what libraries
    need on the way.
    """
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    rows = config.architecture.rows(config.spec)
    layers = [layer for stack in rows.values() for layer in stack]
    fixed = 20 * sum(row.parameters(before) for row, before, _ in layers)
    # D sees a real and a fake image for every one that G makes.
    per_image = (
        3
        * 4
        * sum(
            math.prod(after) * (1 if name == "generator" else 2)
            for name, stack in rows.items()
            for _, _, after in stack
        )
    )
    most = max(2, int((0.8 * memory - fixed) / per_image))
    return 2 ** int(math.log2(min(most, config.optim.batch_size / 2, 2**20)))


def _default_out(dataset: str) -> Path:
    stem = Path("runs") / f"{dataset}-{datetime.now():%Y%m%d-%H%M%S}"
    return next(
        path
        for n in itertools.count(1)
        if not (path := stem if n == 1 else stem.with_name(f"{stem.name}-{n}")).exists()
    )
