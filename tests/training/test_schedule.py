"""What changes with how far a run is: the same for both engines, and in two sessions as in one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from training_runs import assert_same_run, small

from fastinfogan.config import OptimConfig
from fastinfogan.errors import UserError
from fastinfogan.training.checkpoint import list_checkpoints
from fastinfogan.training.schedule import GROWS, Schedule
from fastinfogan.training.trainer import train


class _Told:
    """An engine's place: what it was told last."""

    rates, orthogonal = 1.0, 1.0

    def scale_rates(self, share):
        self.rates = share

    def scale_orthogonal(self, share):
        self.orthogonal = share


def told(total=100, first=0, decay=0.0, orthogonal=0.0):
    """The shares in each iteration from ``first`` on: of the rates, and of L_orth's weight."""
    engine, at, found = _Told(), first, []
    optim = OptimConfig(iterations=total, decay=decay, orthogonal=orthogonal)
    schedule = Schedule(engine, optim)
    while at < total:
        some = schedule.begin(at, total - at)
        found += [(engine.rates, engine.orthogonal)] * some
        at += some
    rates, weights = zip(*found, strict=True)
    return list(rates), list(weights)


def shares(decay, **more):
    return told(decay=decay, **more)[0]


def test_the_weight_grows_to_what_was_asked_for():
    _, weights = told(2 * GROWS, orthogonal=3.0)
    assert weights[:30] == [0.0] * 10 + [10 / GROWS] * 10 + [20 / GROWS] * 10
    assert weights == sorted(weights) and set(weights[GROWS:]) == {1.0}
    assert told(2 * GROWS, 777, orthogonal=3.0)[1] == weights[777:]
    assert set(told(20)[1]) == {1.0}


def test_they_stay_and_then_fall_in_steps_of_ten_iterations():
    assert shares(0.0) == [1.0] * 100
    falling = [share for share in (1.0, 0.8, 0.6, 0.4, 0.2) for _ in range(10)]
    assert shares(0.5) == pytest.approx([1.0] * 50 + falling)
    assert shares(1.0)[::10] == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


@pytest.mark.parametrize("first", [1, 49, 55, 60, 99])
def test_they_depend_on_the_iteration_and_not_on_where_a_session_began(first):
    assert shares(0.5, first=first) == shares(0.5)[first:]


def changing(out, iterations=24, decay=0.75, **run):
    tree = small(out, iterations, **run)
    return replace(tree, optim=replace(tree.optim, decay=decay, orthogonal=2.0))


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_a_run_in_two_sessions_is_the_run_in_one(tmp_path, engine, spoil):
    class Killed(Exception):
        pass

    straight = train(changing(tmp_path / "straight", engine=engine)).folder
    alive = True

    def kill(subject, call):
        if alive and call == 18:
            raise Killed

    spoil(before=kill)
    with pytest.raises(Killed):
        train(changing(tmp_path / "halves", engine=engine))
    assert list_checkpoints(tmp_path / "halves" / "checkpoints")
    alive = False
    train(resume=tmp_path / "halves")
    assert_same_run(straight, tmp_path / "halves")


@pytest.mark.usefixtures("brief")
def test_where_it_ends_cant_change_on_the_way(tmp_path):
    """It may where rates stay."""
    train(changing(tmp_path / "falls", 5))
    with pytest.raises(UserError, match=r"--iterations 9: .* was started with 5"):
        train(changing(tmp_path / "falls", 9), resume=tmp_path / "falls")
    train(changing(tmp_path / "stays", 5, decay=0.0))
    assert train(changing(tmp_path / "stays", 9, decay=0.0), resume=tmp_path / "stays")
