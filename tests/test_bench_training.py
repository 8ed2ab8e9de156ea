"""The benchmark harness: what it counts, how it names a machine, what it tells people."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from narrow import narrow_presets
from rich.console import Console
from tolerances import TRAJECTORY_64

from bench import additions, machine
from bench.additions import ADDITIONS
from bench.floor import Rates, Work, layer_flop, work_of
from bench.harness import spread
from bench.machine import slug
from bench.profile_step import timeline
from bench.runner import Parity, Runner, config_of
from bench.subjects import all_subjects
from bench.table import remarks_of, table_of
from fastinfogan.config import fc, preset_config, upconv
from fastinfogan.kernels import dispatch
from fastinfogan.training.average import Average

CPU = torch.device("cpu")


def updated(preset, update):
    config = preset_config(preset)
    return replace(config, optim=replace(config.optim, update=update))


@pytest.mark.parametrize(
    ("preset", "alternating", "simultaneous"),
    [("mnist", 40.4, 33.7), ("celeba", 63.0, 51.9), ("chairs-rotation", 674, 561)],
)
def test_flop_of_an_iteration(preset, alternating, simultaneous):
    """Counts made by hand, in GFLOP, with Q on real images and the first layers' input gradients.

    Neither is needed, and we count neither: up to 2 % less.
    """
    for update, by_hand in (("alternating", alternating), ("simultaneous", simultaneous)):
        counted = work_of(updated(preset, update)).flop / 1e9
        assert 0.98 * by_hand < counted < by_hand


def test_flop_of_an_mlp_by_hand():
    """mnist-mlp, batch 32: G 26-256-784, D 784-128-1, Q 784-128-10 with a trunk of its own."""
    g, d, q = 2 * (26 * 256 + 256 * 784), 2 * (784 * 128 + 128), 2 * (784 * 128 + 128 * 10)
    first_d, first_g = 2 * 784 * 128, 2 * 26 * 256
    forward = g + 2 * d + q
    weights_d = 2 * d + q
    inputs_d = weights_d - 3 * first_d
    for_g = g + (d + q) + (d + q) + g + (g - first_g)
    by_hand = forward + weights_d + inputs_d + for_g
    assert work_of(preset_config("mnist-mlp")).flop == 32 * by_hand


def test_flop_of_consistency_by_hand():
    """mnist: trunk and Q once more on the copies, with two gradients; Q on the images."""
    plain = preset_config("mnist")
    both = replace(plain, optim=replace(plain.optim, consistency=1.0))
    conv1, conv2, fc1 = 2 * 16 * 64 * 14 * 14, 2 * 16 * 64 * 128 * 7 * 7, 2 * 6272 * 1024
    head = 2 * (1024 * 128 + 128 * 12)
    by_hand = 3 * (conv1 + conv2 + fc1 + head) - conv1 + head
    assert work_of(both).flop - work_of(plain).flop == 128 * by_hand


@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
def test_flop_of_the_contrastive_regulariser_by_hand(update):
    """mnist: the trunk's layers on pairs, so with two channels, and two codes at the end."""
    plain = preset_config("mnist")
    plain = replace(plain, optim=replace(plain.optim, update=update))
    both = replace(plain, optim=replace(plain.optim, contrastive=1.0))
    first, conv2, fc1 = 2 * 16 * 2 * 64 * 14 * 14, 2 * 16 * 64 * 128 * 7 * 7, 2 * 6272 * 1024
    forward = first + conv2 + fc1 + 2 * 1024 * 2
    passes = 3 * forward  # with gradients of weights and of images
    if update == "alternating":  # D's without those of images, then G's without those of weights
        passes = (3 * forward - first) + 2 * forward
    assert work_of(both).flop - work_of(plain).flop == 64 * passes


def test_flop_of_layers():
    """A transposed convolution multiplies at each pixel of the small map, its input."""
    assert layer_flop(fc(5), (2, 3, 3), (5,)) == 2 * 18 * 5
    assert layer_flop(upconv(4, "relu"), (3, 7, 7), (4, 14, 14)) == 2 * 16 * 3 * 4 * 49


@pytest.mark.parametrize(
    ("preset", "megabytes"), [("mnist", 400), ("celeba", 123), ("chairs-rotation", 1180)]
)
def test_bytes_of_adam(preset, megabytes):
    """To the three digits that are given."""
    counted = work_of(preset_config(preset)).adam_bytes(half=True) / 1e6
    assert float(f"{counted:.3g}") == megabytes


def test_floor_is_arithmetic_then_traffic():
    rates = Rates({"float32": 1e9, "bfloat16": 4e9}, bytes_per_s=1e6)
    work = Work(flop=2 * 10**9, parameters=10**5)
    assert rates.floor(work, "float32") == pytest.approx(2.0 + 2.8)
    assert rates.floor(work, "bfloat16") == pytest.approx(0.5 + 3.0)


def test_slug():
    cpu = {"cpu": "Some(R) Maker(TM) CPU E5 @ 2.50GHz", "threads": 2}
    assert slug(cpu) == "some-maker-cpu-e5-2.50ghz-2-threads"
    assert slug({**cpu, "gpu": "NVIDIA H100 80GB HBM3"}) == "nvidia-h100-80gb-hbm3"


def test_spread():
    assert spread([3.0, 1.0, 2.0, 5.0, 4.0]) == {
        "n": 5, "min": 1.0, "q1": 2.0, "median": 3.0, "q3": 4.0, "max": 5.0,
    }  # fmt: skip
    assert spread([7.0])["q3"] == 7.0


def test_timeline_counts_what_runs_at_once_once():
    """Two iterations: a (0-4) beside b (2-6), a gap of 3, then a (9-11) with another grid, a copy.

    A kernel is known by its name and by what it was launched with.
    """
    launched = {"grid": [8, 1, 1], "block": [128, 1, 1], "stream": 7, "registers per thread": 40}
    launched |= {"shared memory": 1024, "est. achieved occupancy %": 5, "correlation": 1}
    larger = launched | {"grid": [9, 1, 1], "correlation": 2}
    events = [
        {"name": "a", "ts": 0.0, "dur": 4.0, "args": launched},
        {"name": "a", "ts": 9.0, "dur": 2.0, "args": larger},
        {"name": "b", "ts": 2.0, "dur": 4.0, "args": launched},
        {"name": "b", "ts": 11.0, "dur": 1.0, "args": launched | {"correlation": 3}},
        {"name": "Memcpy DtoD", "ts": 12.0, "dur": 1.0, "args": {"stream": 7, "bytes": 64}},
    ]
    found = timeline(events, iterations=2)
    assert (found["span_us"], found["busy_us"]) == (6.5, 5.0)
    assert (found["gap_us"], found["overlap_us"]) == (1.5, 1.0)
    assert found["gaps"] == [{"us": 3.0, "after": "b", "before": "a"}]
    b, a, other, copy = found["kernels"]
    assert [(k["name"], k["grid"], k["calls"], k["us"]) for k in (b, a)] == [
        ("b", [8, 1, 1], 1.0, 2.5), ("a", [8, 1, 1], 0.5, 2.0),
    ]  # fmt: skip
    assert (other["grid"], other["us"], other["share"]) == ([9, 1, 1], 1.0, 2 / 12)
    assert (copy["grid"], copy["streams"], copy["us"]) == (None, 1, 0.5)
    assert (b["block"], b["registers"]) == ([128, 1, 1], 40)
    assert (b["shared"], b["occupancy"]) == (1024, 5)


def test_a_commit_can_be_told(monkeypatch):
    monkeypatch.setenv("BENCH_COMMIT", "abc")
    on = machine.describe(CPU)
    assert (on["commit"], on["dirty"]) == ("abc", None)


def printed(table):
    console = Console(width=160)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_table_and_remarks():
    seconds = spread([0.2, 0.25, 0.3])
    measured = {
        "batch": 128, "flop": 40.2e9, "floor_s": {"float32": 0.125},
        "subjects": {
            "reference": {"says": "", "amp": False, "skipped": "it is late"},
            "ours": {
                "says": "", "amp": False, "seconds": seconds, "images_per_s": 512.0,
                "ratio_to": {
                    "tuned": spread([1.2]), "tuned-amp": spread([0.3]), "reference": spread([1.5]),
                    "ours": spread([0.9]),
                },
                "floor_fraction": 0.5,
                "first_iteration_s": 1.25, "memory": {"peak_bytes": 700_000_000},
            },
        },
    }  # fmt: skip
    text = printed(table_of("mnist", measured))
    ours = next(line for line in text.splitlines() if line.startswith("│ ours"))
    for part in ("250", "225-275", "512", "1.20", "1.50", "0.90", "50%", "1.25", "700"):
        assert part in ours
    assert "0.30" not in ours  # the peer is the one in the same precision
    assert "40.2 GFLOP" in text
    assert remarks_of(measured) == ["reference skipped: it is late"]


@pytest.fixture(scope="module")
def narrow():
    with narrow_presets():
        yield config_of("mnist", tiny=True)


def subject_of(name):
    return next(subject for subject in all_subjects(CPU) if subject.name == name)


@pytest.mark.parametrize("name", ["two-passes", "separate-adam", "no-kernels"])
@pytest.mark.parametrize("preset", ["mnist", "digits"])
def test_ablations_compute_the_same(narrow, preset, name):
    """Losses of three iterations agree to rounding, as Adam makes it grow.

    In float64, as the engines are compared: elsewhere the ablations run in whatever half precision
    the machine has.
    """
    sums = []
    for subject in (subject_of("ours"), subject_of(name)):
        runner = Runner(subject, config_of(preset, tiny=True), CPU, torch.float64)
        runner.run(3)
        sums.append(runner.sums)
    torch.testing.assert_close(sums[1], sums[0], rtol=TRAJECTORY_64, atol=TRAJECTORY_64)


def test_kernels_are_off_for_an_ablation_alone():
    """What is chosen inside a step, and that it is as before after it."""
    subject, chosen = subject_of("no-kernels"), []
    tensor = torch.ones(1)
    types = {"native": (torch.float32,), "triton": ()}
    before = dispatch.choose("adam", "auto", tensor, **types)
    with subject.around():
        chosen.append(dispatch.choose("adam", "auto", tensor, **types))
    assert chosen == ["reference"]
    assert dispatch.choose("adam", "auto", tensor, **types) == before


def test_parity_refuses_a_wrong_loss(narrow):
    parity, subject = Parity(narrow, CPU), subject_of("ours")
    runner = Runner(subject, narrow, CPU)
    runner.run(1)
    sums = runner.sums.tolist()
    parity.check(subject, sums, None)
    sums[2] += 0.5
    with pytest.raises(AssertionError, match="ours: nll is off by 0.5 >"):
        parity.check(subject, sums, None)


@pytest.mark.parametrize(("average", "at"), [(100, [10, 20]), (0, [])])
def test_weights_are_averaged_where_a_preset_does(narrow, monkeypatch, average, at):
    updates = []
    monkeypatch.setattr(Average, "update", lambda self, iteration: updates.append(iteration))
    runner = Runner(
        subject_of("ours"), replace(narrow, optim=replace(narrow.optim, average=average)), CPU
    )
    runner.run(3)
    runner.run(20)
    assert updates == at


def test_each_addition_is_in_what_is_measured(narrow):
    """Of the same images and latents the losses are others, but for averaging's."""
    sums = {}
    for name, optim in ADDITIONS.items():
        runner = Runner(
            subject_of("ours"), replace(narrow, optim=replace(narrow.optim, **optim)), CPU
        )
        runner.run(2)
        sums[name] = runner.sums[:2].tolist()
    assert sums.pop("average") == sums["paper"]
    assert len({tuple(one) for one in sums.values()}) == len(ADDITIONS) - 1


def test_additions_are_measured_beside_the_paper_s_objective(capsys, monkeypatch):
    """Float32, and half precision where the machine has it; each with its ratio."""
    begun = []

    class StandIn:
        def __init__(self, preset, subject, flags):
            begun.append((subject, json.loads(flags[flags.index("--optim") + 1])))
            self.timed = lambda count: (0.25, 0.0)

        def close(self):
            pass

    monkeypatch.setattr(additions, "Apart", StandIn)
    assert additions.main(["--tiny"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = ["paper", "consistency", "augment", "average", "contrastive", "all"]
    assert [line.split()[1] for line in lines[:6]] == names
    assert "1.00 x" in lines[0]
    assert [optim for subject, optim in begun if subject == "ours"] == [*ADDITIONS.values()]
