"""The training loop: status, pictures, checkpoint, step; then what a finished run leaves behind."""

from __future__ import annotations

import contextlib
import functools
import signal
from pathlib import Path
from typing import Any

from torch import Tensor

from fastinfogan.config import TrainConfig, resolve
from fastinfogan.data.feeds.feed import Batches
from fastinfogan.data.feeds.open_feed import open_feed
from fastinfogan.device import describe_device, on_host, wait
from fastinfogan.engine.build import build_engine
from fastinfogan.engine.draws import Draws, fill_of
from fastinfogan.engine.graph import Captured, Eager
from fastinfogan.errors import UserError, is_out_of_memory
from fastinfogan.paths import expanded, quoted
from fastinfogan.plan import are_small, make_plan
from fastinfogan.ranks.alone import ALONE, Ranks
from fastinfogan.ranks.joining import joined
from fastinfogan.ranks.place import only_the_first_speaks
from fastinfogan.results.run import Run, load_run
from fastinfogan.results.run_config import read_config
from fastinfogan.tell import lasting_output, on_stderr
from fastinfogan.training import alike
from fastinfogan.training.average import Average
from fastinfogan.training.checkpoint import (
    Progress,
    engine_state,
    list_checkpoints,
    save_checkpoint,
)
from fastinfogan.training.directory import CONFIG, claimed, held, refuse_existing, started_in
from fastinfogan.training.images import read_images, settled
from fastinfogan.training.introduction import introduction
from fastinfogan.training.memory import fitting
from fastinfogan.training.metrics import MetricsLog, Window, diverged, not_finite
from fastinfogan.training.pauses import is_due, until_next_pause
from fastinfogan.training.profile import AFTER, ITERATIONS, traced
from fastinfogan.training.record import Onlooker, Record
from fastinfogan.training.resume import Standing, continued_config, is_finished, restore
from fastinfogan.training.saving import Work
from fastinfogan.training.schedule import Schedule
from fastinfogan.training.session import Clock, Signals, is_orphan
from fastinfogan.training.space import check_space, unwritable
from fastinfogan.training.status import Status, open_status


def train(
    config: TrainConfig | None = None, resume: Path | str | None = None, or_start: bool = False
) -> Run:
    """Train an InfoGAN, or go on with a run, and return the finished (or interrupted) run.

    Under torchrun every process calls this, and all train one run; the first writes it.

    Args:
        config: what to train; None means the defaults, or, with ``resume``, the run's own. With
            ``resume``, fields outside ``config.RESUMABLE_CHANGES`` must equal the run's.
        resume: a run directory to continue from its newest usable checkpoint.
        or_start: start the run of ``resume`` if it isn't there, and leave it as it is if it is
            finished: for whoever calls this again until it returns.

    Returns:
        The run, with ``interrupted`` set if SIGINT or SIGTERM ended it early.

    Raises:
        UserError: something asked for can't work; no directory has been made.
        TrainingDiverged: a loss became NaN or infinite; the last good checkpoint is kept.
    """
    if or_start and resume is None:
        raise UserError("--or-start: it says what --resume RUN does where there is no run yet")
    with (
        only_the_first_speaks(),
        lasting_output("training goes on, and its numbers are in metrics.jsonl"),
        joined() as ranks,
    ):
        alike.check_asked(config, resume, or_start, ranks)
        folder = None if resume is None else expanded(resume)
        if or_start and not ranks.first(lambda: (folder / CONFIG).exists()):
            config, folder = started_in(folder, config), None
        if folder is None:
            return Training(resolve(config or TrainConfig()), False, ranks).run()
        saved = read_config(folder)  # a lock is left in runs only
        if or_start and ranks.first(lambda: is_finished(folder, config or saved)):
            print(f"the run in {folder} is finished", flush=True)
            return load_run(folder)
        with ranks.if_first(lambda: held(folder, on_stderr)):
            return Training(continued_config(folder, config), True, ranks).run()


class Training:
    """One session of training a run.

    Everything that can be refused is refused on construction, before a directory is made.

    Args:
        config: resolved.
        resumed: go on with the run in ``config.run.out``.
        ranks: that train it.
    """

    def __init__(self, config: TrainConfig, resumed: bool, ranks: Ranks = ALONE) -> None:
        self.config, self.resumed, self.ranks = config, resumed, ranks
        self.status: Status | None = None  # until it is known where the run stands
        self.plan = make_plan(config.run, ranks, are_small(config))
        alike.check_batch(config, ranks)
        self.out = config.run.out or Path("runs")  # until the run directory has its name
        if config.run.out and not resumed:
            ranks.first(lambda: refuse_existing(self.out))
        self.data, self.test = ranks.in_turn(lambda: read_images(config), on_stderr)
        self.config = config = settled(config, self.data)
        alike.check_alike(config, self.plan.device, self.data, self.test, ranks)
        self.engine = build_engine(config, self.plan)
        self.average = Average(self.engine, config.optim.average)
        self.schedule = Schedule(self.engine, config.optim)
        batches = Batches(
            config.optim.batch_size, config.run.seed, config.architecture.output_range,
            self.plan.device, self.plan.input_dtype, ranks.rank, ranks.size, ranks.place.local_size,
        )  # fmt: skip
        self.feed = open_feed(self.data, batches, config.run.feed, config.data.allow_bad, self.tell)
        fill = None
        if config.optim.changes_images:
            fill = fill_of(self.data, config.architecture.output_range, self.plan.device)
        self.draws = Draws(config, self.feed, self.plan.input_dtype, fill, batches.slice)
        self.draws.beside(self.engine)
        self.window = Window(config.spec, self.plan.device, config.optim.extra_losses, ranks)
        self.window.beside(self.engine)
        run_iterations = Eager
        if self.plan.graphs:
            one_stream = self.engine.keep_to_one_stream
            run_iterations = functools.partial(Captured, keep_to_one_stream=one_stream)
        self.iterations = run_iterations(self._iterate, self.feed.prepare, self.tell)

        self.standing = ranks.first(self._restored)
        self.iteration, self.window.count = self.standing.iteration, self.standing.window_count
        alike.share_state(self.engine, self.average, self.window, ranks)
        self.draws.seek(self.iteration)
        total = config.optim.iterations
        self.trace_at = min(self.iteration + AFTER, total - 1) if config.run.profile else None
        self.status = open_status(total, self.iteration)

    def run(self) -> Run:
        """Train to the end, or until a signal asks to stop."""
        asked, dataset = self.config.run.out, self.config.data.dataset
        with contextlib.ExitStack() as stack:
            stack.callback(self.feed.close)
            if not self.resumed:  # otherwise whoever read the run holds it
                claim = self.ranks.if_first(lambda: claimed(asked, dataset, self.tell))
                out = stack.enter_context(claim)
                self.out = self.ranks.first(lambda: out)
            try:
                return self._train()
            except OSError as error:
                raise unwritable(self.out, error) from None
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                raise UserError(
                    f"--batch-size {self._batch_size}: {self.plan.device} has too little "
                    f"memory; {fitting(self.config, self.plan.device)}"
                ) from None

    def _train(self) -> Run:
        networks = self.average.generator, self.average.discriminator
        run = Run(self.out, self.config.kept_in(self.out), *networks)
        clock = Clock(self.standing.seconds, self.iteration)
        with self._record(run) as record:
            self._loop(run, record, clock)
            if run.interrupted is None:
                self._finish(run, record, clock)
        return run

    def _loop(self, run: Run, record: Onlooker, clock: Clock) -> None:
        """Train; ``run`` says then how far, and what stopped it."""
        config, settings = self.config, self.config.run
        total = config.optim.iterations
        saved_at, asked = self.iteration, 0
        with Signals() as signals, self.status as status:
            for line in introduction(
                config, self.data, self.test, self.plan, self.feed, self.out, self.standing,
                self.resumed,
            ):  # fmt: skip
                status.line(line)
            self.feed.begin()
            self.ranks.barrier()
            while True:
                finished = self.iteration == total

                # Status: the means since the last line of metrics.
                evaluate = is_due(self.iteration, settings.evaluate_every)
                due = finished or evaluate or self.iteration % settings.log_every == 0
                if self.window.count and due:
                    row = self._means(record)
                    self.window.reset()
                    if evaluate:
                        alike.share_statistics(self.average, self.ranks)
                        row |= run.evaluate_briefly(self.test, self.ranks)
                    row |= clock.lap(self.iteration, self._batch_size)
                    record.row(row)
                    status.metrics(row)

                # What comes next, on all ranks: what any of them was asked, what the first finds.
                if signals.received is None and is_orphan():
                    status.line("the study that started this run is gone: stopping, as for SIGTERM")
                    signals.received = signal.SIGTERM
                record.look()
                now = signals.received or 0, *record.due(self.iteration)
                asked, draw, save = self.ranks.most(now)
                stopping = finished or asked > 0
                draw, save = draw and not stopping, save or stopping

                # Pictures and checkpoint: copied here, written beside the iterations to come.
                if draw or save:
                    record.pause()
                    self.ranks.barrier()  # the disk may keep the first one long
                    if draw:
                        record.draw(self.iteration)
                    if save and self.iteration > saved_at:
                        self._save(record, clock)
                        saved_at = self.iteration
                if stopping:
                    record.wait()
                    break

                # Step: until there is something else to do; with a trace once, if asked for.
                if self.iteration == self.trace_at:
                    self._trace()
                else:
                    self._advance(self._until_next_pause(one_by_one=True))
                status.advance(self.iteration)

            run.iteration = self.iteration
            if not finished:
                run.interrupted = signal.Signals(asked)
                status.line(
                    f"stopped by {run.interrupted.name} after iteration {self.iteration} of "
                    f"{total}; continue with: fastinfogan train --resume {quoted(self.out)}"
                )
                return
            trained = "trained, but collapsed" if record.signs else "trained"
            status.line(f"{trained}; evaluating, drawing (if stopped here, --resume does it again)")

    def _finish(self, run: Run, record: Onlooker, clock: Clock) -> None:
        alike.share_statistics(self.average, self.ranks)
        run.finish(
            self.test, self.data, clock.total, describe_device(self.plan.device), record.signs,
            show=functools.partial(record.show, iteration=self.iteration), ranks=self.ranks,
        )  # fmt: skip

    # -- Status ----------------------------------------------------------------------------------

    def tell(self, line: str) -> None:
        """Show a line, beside the bar where there is one."""
        (self.status.line if self.status else on_stderr)(line)

    def _means(self, record: Onlooker) -> dict[str, Any]:
        """The mean metrics since the last log line, all of them finite."""
        means = {"iteration": self.iteration, **self.window.means()}
        if (wrong := not_finite(means, self.engine.loss_scale)) is not None:
            record.wait()
            kept = list_checkpoints(self.out / "checkpoints")
            raise diverged(self.iteration, *wrong, kept[0] if kept else None)
        return means

    # -- Saving ----------------------------------------------------------------------------------

    def _restored(self) -> Standing:
        """Where the run stands, put into the first rank's engine; and whether it has room."""
        standing = Standing()
        if self.resumed:
            standing = restore(
                self.out, self.config, self.data, self.engine, self.average, self.window
            )
        check_space(self.out, self.config, self.engine, standing.iteration)
        return standing

    def _record(self, run: Run) -> Onlooker:
        """What is kept of this session: the first rank keeps it."""
        if not self.ranks.is_first:
            return Onlooker()
        last_row = self.iteration - self.window.count
        return Record(run, self.data, self.standing, last_row, self.tell)

    def _save(self, record: Onlooker, clock: Clock) -> None:
        """Make a checkpoint, if all that has been measured is finite."""
        if self.window.count:
            self._means(record)
        sums = self.window.of_all_ranks()
        record.save(lambda log: self._copied(sums, clock, log))

    def _copied(self, sums: Tensor, clock: Clock, log: MetricsLog) -> Work:
        """A copy of where the run stands now, and the work of making a checkpoint of it."""
        window = on_host({"window": sums})
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
            save_checkpoint(self.out / "checkpoints", tensors, progress, self.data.origin)

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
            some = self.schedule.begin(self.iteration, min(until or count, end - self.iteration))
            self.iterations.run(some)
            self.iteration += some
            self.window.count += some
            if some == until:
                self.average.update(self.iteration)

    def _trace(self) -> None:
        """Iterations with the profiler on, and what it found."""
        count = min(ITERATIONS, self._until_next_pause())
        wait(self.plan.device)
        trace = self.out / "trace.json"
        with self.ranks.if_first(lambda: traced(trace, self.plan.device, count)) as top:
            self._advance(count)
        for line in top or ():
            self.tell(line)

    def _until_next_pause(self, one_by_one: bool = False) -> int:
        if one_by_one and self.plan.device.type == "cpu":  # so that a signal is answered soon
            return 1
        return until_next_pause(self.config, self.iteration, self.trace_at)
