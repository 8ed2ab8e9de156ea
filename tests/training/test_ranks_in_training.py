"""The loop on one of several ranks: what any is asked for all do, and one writes."""

from __future__ import annotations

import math
import signal
from dataclasses import replace

import pytest
import torch
from training_runs import assert_same_run, small

from fastinfogan.config import resolve
from fastinfogan.data import DATASETS
from fastinfogan.errors import TrainingDiverged, UserError
from fastinfogan.ranks.alone import Ranks
from fastinfogan.ranks.place import Place
from fastinfogan.training.alike import check_alike
from fastinfogan.training.checkpoint import list_checkpoints
from fastinfogan.training.resume import Standing
from fastinfogan.training.trainer import Training

pytestmark = pytest.mark.usefixtures("brief")


class First(Ranks):
    """The first of two ranks; the other is asked to stop after so many iterations."""

    def __init__(self, stops_after):
        super().__init__(Place(0, 2))
        self.stops_after, self.turns = stops_after, -1

    def most(self, numbers):
        self.turns += 1
        other = [signal.SIGTERM if self.turns == self.stops_after else 0, 0, 0]
        return [max(pair) for pair in zip(numbers, other, strict=True)]


class Second(Ranks):
    """The second of two ranks; the first says what it is told to say."""

    def __init__(self, *said):
        super().__init__(Place(1, 2))
        self.said, self.turns = iter(said), []

    def first(self, call):
        return next(self.said)

    def most(self, numbers):
        self.turns.append(list(numbers))
        return [numbers[0], True, True]  # the first finds it time for pictures and a checkpoint


def config(out):
    tree = resolve(small(out))
    return replace(tree, run=replace(tree.run, sync_batchnorm=False))  # sums of nobody


def test_a_signal_to_another_rank_stops_this_one_after_the_same_iteration(tmp_path, capsys):
    out = tmp_path / "run"
    run = Training(config(out), False, First(stops_after=8)).run()
    assert run.interrupted == signal.SIGTERM and run.iteration == 8
    assert list_checkpoints(out / "checkpoints")[0].stem == "step_00000008"
    assert "stopped by SIGTERM after iteration 8" in capsys.readouterr().out


def test_another_rank_than_the_first_makes_and_writes_nothing(tmp_path, monkeypatch):
    """Though it is there for all that is done together, such as the losses' means."""
    monkeypatch.chdir(tmp_path)
    out, read = tmp_path / "run", []
    second = Second(None, Standing(), out, None)
    monkeypatch.setattr(second, "mean", lambda tensor: read.append(len(tensor)) or tensor)
    run = Training(config(out), False, second).run()
    assert run.iteration == 12 and run.interrupted is None
    assert list(tmp_path.iterdir()) == []
    assert second.turns == [[0, False, False]] * 13
    # An average of G's and of D's gradients each iteration, beside sums of losses.
    assert sum(length > 100 for length in read) == 2 * 12
    assert next(second.said, "all was said") == "all was said"


def test_a_rank_begins_where_the_first_stands(tmp_path):
    second = Second(None, Standing(7, 1.5, 3))
    copied = []
    second.copy_from_first = lambda tensors: copied.extend(tensors)
    training = Training(config(tmp_path / "run"), False, second)
    assert (training.iteration, training.window.count) == (7, 3)
    weights = [*training.engine.generator.parameters(), *training.engine.discriminator.parameters()]
    kept = {tensor.data_ptr() for tensor in copied}
    assert {weight.data_ptr() for weight in weights} <= kept
    assert training.window.sums.data_ptr() in kept
    adams = training.engine.adam_d, training.engine.adam_g
    moments = [tensor for adam in adams for kept in adam.state.values() for tensor in kept.values()]
    assert {tensor.data_ptr() for tensor in moments} <= kept


@pytest.mark.parametrize(
    ("name", "other", "says"),
    [
        ("images to evaluate on", "", "rank 1 has other images to evaluate on than rank 0: their"),
        ("factors", 7, "rank 1 has other factors of its images than rank 0; every rank"),
        ("decoder of images", "dali", "decoder of images: None on rank 0 and dali on rank 1; "),
    ],
)
def test_what_ranks_evaluate_and_decode_must_be_alike(tmp_path, name, other, says):
    ranks, data = First(stops_after=99), DATASETS["few-digits"].load(None)
    ranks.everyone = lambda own: [own, {**own, name: other}]
    with pytest.raises(UserError, match=says):
        check_alike(config(tmp_path), torch.device("cpu"), data, data, ranks)


def test_what_gradients_are_sent_in_is_said(tmp_path, capsys):
    """Of one process, that it changes nothing: the same bits, in a run that goes on either way."""
    tree = config(tmp_path / "two")
    tree = replace(tree, run=replace(tree.run, reduce_dtype="bfloat16"))
    Training(tree, False, First(stops_after=1)).run()
    assert ", gradients sent in bfloat16" in capsys.readouterr().out
    alone = {}
    for sent_in in ("float32", "bfloat16"):
        out = tmp_path / sent_in
        Training(replace(tree, run=replace(tree.run, out=out, reduce_dtype=sent_in)), False).run()
        said = capsys.readouterr().out
        assert ("--reduce-dtype bfloat16: no effect" in said) == (sent_in == "bfloat16")
        assert "gradients sent" not in said
        alone[sent_in] = out
    assert_same_run(*alone.values())
    assert tree.fingerprint() == config(tmp_path).fingerprint()


def test_all_evaluate_by_the_running_statistics_of_the_first(tmp_path, monkeypatch):
    """After every fourth iteration, and at the end."""
    ranks, copied = First(stops_after=99), []
    monkeypatch.setattr(
        ranks, "copy_from_first", lambda some: copied.append([t.data_ptr() for t in some])
    )
    tree = config(tmp_path / "run")
    training = Training(replace(tree, run=replace(tree.run, evaluate_every=4)), False, ranks)
    copied.clear()
    training.run()
    kept = [[b.data_ptr() for b in network.buffers()] for network in (
        training.average.generator, training.average.discriminator)]  # fmt: skip
    assert kept[1] and copied == kept * 4


def test_a_loss_of_another_rank_that_is_not_finite_ends_this_one(tmp_path, monkeypatch):
    ranks = First(stops_after=99)
    monkeypatch.setattr(ranks, "mean", lambda t: t.fill_(math.nan) if len(t) < 100 else t)
    with pytest.raises(TrainingDiverged, match="iteration 4: d_loss is nan; no checkpoint yet"):
        Training(config(tmp_path / "run"), False, ranks).run()
