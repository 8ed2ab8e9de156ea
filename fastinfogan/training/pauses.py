"""When the loop pauses: for a line of metrics, an evaluation, pictures, a checkpoint, a trace."""

from __future__ import annotations

from fastinfogan.config import TrainConfig

LOOK = 250  # iterations, at most, between looks at the clock and at signals


def is_due(iteration: int, every: int) -> bool:
    """Whether something that comes every so many iterations comes now; never, if ``every`` is 0."""
    return every > 0 and iteration > 0 and iteration % every == 0


def until_next_pause(config: TrainConfig, iteration: int, trace_at: int | None) -> int:
    """Iterations until the loop has something else to do.

    Args:
        config: resolved.
        iteration: how many are done.
        trace_at: the iteration that a trace begins with; None: there is none to come.
    """
    run = config.run
    everies = (
        LOOK, run.log_every, run.sample_every, run.checkpoint_every, run.evaluate_every,
    )  # fmt: skip
    ends = [(iteration // every + 1) * every for every in everies if every]
    if trace_at is not None and trace_at > iteration:
        ends.append(trace_at)
    return min(*ends, config.optim.iterations) - iteration
