"""--average: training doesn't notice, and what is evaluated, drawn and exported is the mean."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from training_runs import assert_same_weights, newest_state, small

from fastinfogan.config import ModelConfig, OptimConfig, resolve
from fastinfogan.model.weights import weights
from fastinfogan.results.generator_file import load_generator
from fastinfogan.results.run import load_run
from fastinfogan.training.average import EVERY, PART, Average
from fastinfogan.training.trainer import Training, train


def config(out, iterations, average=20, **run):
    tree = small(out, iterations, log_every=10, **run)
    model = ModelConfig(preset="narrow-digits")
    optim = OptimConfig(iterations=iterations, batch_size=16, average=average)
    return replace(tree, model=model, optim=optim)


class Pair:
    """Two networks, as Average sees an engine."""

    def __init__(self):
        self.generator = torch.nn.Linear(3, 2)
        self.discriminator = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.BatchNorm1d(4))


@torch.no_grad()
def test_the_mean_is_that_of_the_formula():
    """v holds the iteration: w is a weighted mean of iterations, written out in plain numbers."""
    pair = Pair()
    average, length, expected = Average(pair, 50), 50, 0.0
    for iteration in range(EVERY, 1001, EVERY):
        for tensor in (*weights(pair.generator).values(), *weights(pair.discriminator).values()):
            tensor.fill_(float(iteration))
        average.update(iteration)
        horizon = max(1.0, min(length, iteration / PART))
        expected += (1 - (1 - 1 / horizon) ** EVERY) * (iteration - expected)
        for network in (average.generator, average.discriminator):
            for name, tensor in weights(network).items():
                torch.testing.assert_close(tensor, torch.full_like(tensor, expected), msg=name)
    assert 1000 - 1.5 * length < expected < 1000 - 0.5 * length  # about as long ago as it says


@torch.no_grad()
def test_without_a_horizon_yet_it_is_the_weights_themselves():
    pair = Pair()
    average = Average(pair, 100)
    pair.generator.weight.fill_(3.0)
    average.update(EVERY)
    assert torch.equal(average.generator.weight, pair.generator.weight)
    assert average.generator.weight is not pair.generator.weight


def test_off_it_is_the_engine_s_networks():
    pair = Pair()
    average = Average(pair, 0)
    assert average.generator is pair.generator and average.discriminator is pair.discriminator
    assert average.until_next(7) is None and average.state() == {}


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("stop", [10, 17])
def test_a_resumed_run_has_the_same_mean(tmp_path, engine, stop):
    """Stopped where weights are taken into the mean, and between two such iterations."""
    straight = train(config(tmp_path / "straight", 20, engine=engine)).folder
    train(config(tmp_path / "halves", stop, engine=engine))
    halves = train(config(tmp_path / "halves", 20, engine=engine), tmp_path / "halves").folder
    assert_same_weights(straight, halves)
    assert any(name.startswith("average.generator.") for name in newest_state(halves))


@pytest.mark.usefixtures("brief")
def test_training_does_not_notice(tmp_path):
    plain, averaged = (
        newest_state(train(config(tmp_path / str(length), 30, length)).folder) for length in (0, 20)
    )
    assert {
        k: v for k, v in averaged.items() if not k.startswith("average.")
    }.keys() == plain.keys()
    assert not [name for name in plain if not torch.equal(plain[name], averaged[name])]


@pytest.mark.usefixtures("no_curves")
def test_what_is_evaluated_drawn_and_exported_is_the_mean(tmp_path):
    """At a low learning rate both draw alike: it is the numbers that tell them apart."""
    run = train(config(tmp_path / "run", 40))
    state = newest_state(run.folder)
    read, exported = load_run(run.folder), load_generator(run.folder / "generator.safetensors")
    for network, name in (
        (run.generator, "generator"), (read.generator, "generator"),
        (exported.generator, "generator"), (run.discriminator, "discriminator"),
        (read.discriminator, "discriminator"),
    ):  # fmt: skip
        for key, tensor in weights(network).items():
            assert torch.equal(tensor, state[f"average.{name}.{key}"])
    learned = [n for n in state if n.startswith("generator.") and n.endswith("weight")]
    assert any(not torch.equal(state[name], state[f"average.{name}"]) for name in learned)


@pytest.mark.usefixtures("brief")
def test_any_number_of_iterations_at_once_gives_the_same_mean(tmp_path):
    """A GPU runs many iterations between two looks of the host, a CPU one."""
    states = []
    for steps in ([1] * 45, [45], [7, 30, 8]):
        training = Training(resolve(config(tmp_path / str(len(steps)), 45)), resumed=False)
        for count in steps:
            training._advance(count)
        assert training.iteration == training.window.count == 45
        states.append(training.average.state())
    for state in states[1:]:
        assert not [name for name in state if not torch.equal(state[name], states[0][name])]
