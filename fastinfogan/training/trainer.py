"""The training loop: status, pictures, checkpoint, step; then what a finished run leaves behind."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import signal
from pathlib import Path
from typing import Any

from fastinfogan.config import TrainConfig, resolve, to_dict
from fastinfogan.data.feeds.feed import Batches
from fastinfogan.data.feeds.open_feed import open_feed
from fastinfogan.device import describe_device, on_host, wait
from fastinfogan.engine.build import build_engine
from fastinfogan.engine.draws import Draws, fill_of
from fastinfogan.engine.graph import Captured, Eager
from fastinfogan.errors import TrainingDiverged, UserError, is_out_of_memory
from fastinfogan.files import atomic_write
from fastinfogan.paths import expanded, quoted
from fastinfogan.plan import make_plan
from fastinfogan.results.changes import save_changes
from fastinfogan.results.eval_mode import in_eval_mode
from fastinfogan.results.evaluate import clusterings
from fastinfogan.results.run import Run
from fastinfogan.results.run_config import read_config
from fastinfogan.tell import lasting_output, on_stderr
from fastinfogan.training.average import Average
from fastinfogan.training.checkpoint import (
    Progress,
    engine_state,
    list_checkpoints,
    remove_stale,
    save_checkpoint,
    set_aside,
)
from fastinfogan.training.collapse import Watch
from fastinfogan.training.directory import CONFIG, claimed, held, refuse_existing
from fastinfogan.training.images import read_images
from fastinfogan.training.memory import fitting
from fastinfogan.training.metrics import MetricsLog, Window
from fastinfogan.training.pictures import drawn
from fastinfogan.training.profile import AFTER, ITERATIONS, traced
from fastinfogan.training.resume import Standing, continued_config, restore
from fastinfogan.training.saving import Rhythm, Saver, Work
from fastinfogan.training.session import Clock, Signals, is_orphan
from fastinfogan.training.space import check_space, unwritable
from fastinfogan.training.status import open_status

LOOK = 250  # iterations, at most, between looks at the clock and at signals


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
    with lasting_output("training goes on, and its numbers are in metrics.jsonl"):
        if resume is None:
            return Training(resolve(config or TrainConfig()), resumed=False).run()
        folder = expanded(resume)
        read_config(folder)  # a lock is left in runs only
        with held(folder, on_stderr):
            return Training(continued_config(folder, config), resumed=True).run()


class Training:
    """One session of training a run.

    Everything that can be refused is refused on construction, before a directory is made.

    Args:
        config: resolved.
        resumed: go on with the run in ``config.run.out``.
    """

    def __init__(self, config: TrainConfig, resumed: bool) -> None:
        self.config, self.resumed = config, resumed
        self.plan = make_plan(config.run, config.optim.iterations)
        self.out = config.run.out or Path("runs")  # until the run directory has its name
        if config.run.out and not resumed:
            refuse_existing(self.out)
        self.data, self.test = read_images(config)
        self.engine = build_engine(config, self.plan)
        self.average = Average(self.engine, config.optim.average)
        batches = Batches(
            config.optim.batch_size, config.run.seed, config.architecture.output_range,
            self.plan.device, self.plan.input_dtype,
        )  # fmt: skip
        self.feed = open_feed(self.data, batches, config.run.feed, config.data.allow_bad, self.tell)
        fill = None
        if config.optim.changes_images:
            fill = fill_of(self.data, config.architecture.output_range, self.plan.device)
        self.draws = Draws(config, self.feed, self.plan.input_dtype, fill)
        self.draws.beside(self.engine)
        self.window = Window(config.spec, self.plan.device, config.optim.consistency > 0)
        run_iterations = Eager
        if self.plan.graphs:
            one_stream = self.engine.keep_to_one_stream
            run_iterations = functools.partial(Captured, keep_to_one_stream=one_stream)
        self.iterations = run_iterations(self._iterate, self.feed.prepare, self.tell)

        standing = Standing()
        if resumed:
            standing = restore(self.out, config, self.data, self.engine, self.average, self.window)
        self.iteration, self.standing = standing.iteration, standing
        check_space(self.out, config, self.engine, self.iteration)
        self.draws.seek(self.iteration)
        total = config.optim.iterations
        self.trace_at = min(self.iteration + AFTER, total - 1) if config.run.profile else None
        self.saver = Saver()
        self.status = open_status(total, self.iteration)

    def run(self) -> Run:
        """Train to the end, or until a signal asks to stop."""
        with contextlib.ExitStack() as stack:
            if not self.resumed:  # otherwise whoever read the run holds it
                asked, dataset = self.config.run.out, self.config.data.dataset
                self.out = stack.enter_context(claimed(asked, dataset, self.tell))
            try:
                return self._train(stack)
            except OSError as error:
                raise unwritable(self.out, error) from None
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                raise UserError(
                    f"--batch-size {self._batch_size}: {self.plan.device} has too little "
                    f"memory; {fitting(self.config, self.plan.device)}"
                ) from None

    def _train(self, stack: contextlib.ExitStack) -> Run:
        settings, total = self.config.run, self.config.optim.iterations
        run, saved_at = self._open_run(), self.iteration
        last_row = self.iteration - self.window.count
        with (
            Signals() as signals,
            self.status as status,
            self.saver,
        ):
            # Open to the end: TensorBoard gets the last pictures, too.
            log = MetricsLog(self.out, self.iteration, last_row, self.config.spec, self.tell)
            stack.enter_context(log)
            clock = Clock(self.standing.seconds, self.iteration)
            for line in self._introduction():
                status.line(line)
            watch = Watch(self.config, self.data, self.out / "metrics.jsonl", self.tell)
            pictures, checkpoints = Rhythm(settings.sample_every), Rhythm(settings.checkpoint_every)
            while True:
                finished = self.iteration == total
                if signals.received is None and is_orphan():
                    status.line("the study that started this run is gone: stopping, as for SIGTERM")
                    signals.received = signal.SIGTERM
                stopping = finished or signals.received is not None

                # Status: the means since the last line of metrics.
                evaluate = self._due(settings.evaluate_every)
                due = finished or evaluate or self.iteration % settings.log_every == 0
                if self.window.count and due:
                    row = self._means()
                    self.window.reset()
                    if evaluate:
                        row["evaluation"] = self._evaluation()
                    row |= clock.lap(self.iteration, self._batch_size)
                    log.write(row)
                    status.metrics(row)
                    watch.see(row)

                # Pictures and checkpoint: copied here, written beside the iterations to come.
                self.saver.look()
                draw = not stopping and pictures.due(self.iteration)
                save = stopping or checkpoints.due(self.iteration)
                if draw or save:
                    watch.look(run.generator)
                    self.saver.wait()  # so that there is one copy at most
                    if draw:
                        self.saver.start(pictures.timed(lambda: drawn(run, self.iteration, log)))
                    if save and self.iteration > saved_at:
                        self.saver.start(checkpoints.timed(lambda: self._copied(clock, log)))
                        saved_at = self.iteration
                if stopping:
                    self.saver.wait()
                    break

                # Step: until there is something else to do; with a trace once, if asked for.
                if self.iteration == self.trace_at:
                    self._trace()
                else:
                    # On a CPU one by one, so that a signal is answered soon.
                    on_cpu = self.plan.device.type == "cpu"
                    self._advance(1 if on_cpu else self._until_next_stop())
                status.advance(self.iteration)

            run.iteration = self.iteration
            if not finished:
                run.interrupted = signals.received
                status.line(
                    f"stopped by {signals.received.name} after iteration {self.iteration} of "
                    f"{total}; continue with: fastinfogan train --resume {quoted(self.out)}"
                )
                return run
            trained = "trained, but collapsed" if watch.signs else "trained"
            status.line(f"{trained}; evaluating, drawing (if stopped here, --resume does it again)")
        run.finish(
            self.test, self.data, clock.total, describe_device(self.plan.device), watch.signs,
            show=functools.partial(log.draw, iteration=self.iteration, last=True),
        )  # fmt: skip
        return run

    # -- Status ----------------------------------------------------------------------------------

    def _introduction(self) -> list[str]:
        """What is trained, on what, where to."""
        config, data = self.config, self.data
        shape = "x".join(map(str, data.image_shape))
        lines = [
            *(problem for _, problem in self.standing.damaged),
            f"{data.total:,} {shape} images of {config.data.dataset}; preset "
            f"{config.model.preset}, codes {config.model.codes}, noise {config.model.noise}",
            f"{config.run.engine} engine on {self.plan.describe()}; {self.feed.summary}",
            f"run directory {self.out}",
        ]
        lines += data.notes
        if data.skipped:
            names = ", ".join(repr(name) for name, _ in data.skipped[:3])
            more = ", ...; fastinfogan ingest names them all" if len(data.skipped) > 3 else ""
            lines.append(f"files skipped: {len(data.skipped)} ({names}{more})")
        if self.resumed:
            lines.append(f"continuing after iteration {self.iteration}")
        elif self.plan.advice:  # a run keeps its precision
            lines.append(self.plan.advice)
        return lines

    def _evaluation(self) -> dict[str, dict[str, float]]:
        """Name of a categorical code -> how its categories match the labels by now."""
        d, config = self.average.discriminator, self.config
        with in_eval_mode(d):
            found = clusterings(d, config.spec, self.test, config.architecture.output_range)
        numbers = ("error_hungarian", "error_majority", "nmi", "ari")
        return {c.code: {name: getattr(c, name) for name in numbers} for c in found}

    def tell(self, line: str) -> None:
        """Show a line, beside the bar where there is one."""
        self.status.line(line)

    def _means(self) -> dict[str, Any]:
        """The mean metrics since the last log line, all of them finite."""
        means = {"iteration": self.iteration, **self.window.means()}
        for name in ("d_loss", "g_loss", "mi"):
            if not math.isfinite(means[name]):
                self.saver.wait()
                kept = list_checkpoints(self.out / "checkpoints")
                raise TrainingDiverged(
                    f"iteration {self.iteration}: {name} is {means[name]}; "
                    + (f"the last good checkpoint is {kept[0]}" if kept else "no checkpoint yet")
                    + "; start a new run with lower --lr-g and --lr-d, or a lower --lambda-cont "
                    "where sigma is learned"
                )
        return means

    # -- Saving ----------------------------------------------------------------------------------

    def _open_run(self) -> Run:
        """Write into the run directory what it is from."""
        config = self.config.kept_in(self.out)
        atomic_write(self.out / CONFIG, json.dumps(to_dict(config), indent=2).encode())
        if config.optim.changes_images:
            save_changes(self.out / "changes.png", self.data, config)
        for path, _ in self.standing.damaged:
            set_aside(path)
        remove_stale(self.out / "checkpoints")  # of a session that was killed while saving
        return Run(self.out, config, self.average.generator, self.average.discriminator)

    def _copied(self, clock: Clock, log: MetricsLog) -> Work:
        """A copy of where the run stands now, and the work of making a checkpoint of it."""
        if self.window.count:
            self._means()
        window = on_host({"window": self.window.sums})
        tensors = {**engine_state(self.engine), **self.average.state(), **window}
        progress = Progress(
            iteration=self.iteration,
            seed=self.config.run.seed,
            data_position=self.iteration * self._batch_size,
            latent_offset=self.draws.latent_offset(self.iteration),
            window_count=self.window.count,
            seconds=clock.total,
            config_fingerprint=self.config.fingerprint(),
            data_fingerprint=self.data.fingerprint,
        )

        def work() -> None:
            log.sync()  # the rows that the checkpoint counts
            save_checkpoint(self.out / "checkpoints", tensors, progress)

        return work

    # -- Step ------------------------------------------------------------------------------------

    @property
    def _batch_size(self) -> int:
        return self.config.optim.batch_size

    def _iterate(self) -> None:
        self.window.add(self.engine.step(self.draws.next()))

    def _advance(self, count: int) -> None:
        """Run ``count`` iterations, and take the weights into their mean when it is time."""
        end = self.iteration + count
        while self.iteration < end:
            until = self.average.until_next(self.iteration)
            some = min(until or count, end - self.iteration)
            self.iterations.run(some)
            self.iteration += some
            self.window.count += some
            if some == until:
                self.average.update(self.iteration)

    def _trace(self) -> None:
        """Iterations with the profiler on, and what it found."""
        count = min(ITERATIONS, self._until_next_stop())
        wait(self.plan.device)
        with traced(self.out / "trace.json", self.plan.device, count) as top:
            self._advance(count)
        for line in top:
            self.tell(line)

    def _due(self, every: int) -> bool:
        return every > 0 and self.iteration > 0 and self.iteration % every == 0

    def _until_next_stop(self) -> int:
        """Iterations until the loop has something else to do."""
        run, at = self.config.run, self.iteration
        everies = (
            LOOK, run.log_every, run.sample_every, run.checkpoint_every, run.evaluate_every,
        )  # fmt: skip
        ends = [(at // every + 1) * every for every in everies if every]
        if self.trace_at is not None and self.trace_at > at:
            ends.append(self.trace_at)
        return min(*ends, self.config.optim.iterations) - at
