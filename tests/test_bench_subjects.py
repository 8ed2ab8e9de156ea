"""The benchmark's subjects: each alone in its process, taking turns; baselines that are fair."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from bench import steps, subjects
from bench.floor import Rates, work_of
from bench.processes import Apart, TooLate
from bench.runner import config_of
from bench.subjects import REFERENCE, Subject, all_subjects
from fastinfogan.engine.build import build_engine
from fastinfogan.plan import Plan

CPU = torch.device("cpu")
TINY = ("--device", "cpu", "--tiny")


@pytest.fixture(autouse=True)
def _presets(narrow_presets):
    pass


@pytest.fixture
def stand_ins(monkeypatch):
    """Subjects' processes stand in: seconds of an iteration by name; what was asked, in order."""
    seconds, asked = {}, []

    class StandIn:
        def __init__(self, preset, name, flags, within=None):
            if within is not None and seconds[name] > within:
                raise TooLate(f"it hadn't begun after {within:.0f} s")
            asked.append(f"start {name}")
            self.name = name
            self.began = {
                "sums": [], "told": [], "memory": {"peak_bytes": 1},
                "first_iteration_s": 2.0, "warm_up_s": 3.0,
            }  # fmt: skip

        def timed(self, count):
            asked.append(self.name)
            left = seconds[self.name]
            if isinstance(left, list):
                if not left:
                    raise RuntimeError("its process ended with exit code -11: no message")
                return left.pop(0), 0.0
            return left, 0.0

        def close(self):
            asked.append(f"end {self.name}")

    class Parity:
        def __init__(self, *arguments):
            pass

        def check(self, subject, sums, half):
            pass

    monkeypatch.setattr(steps, "Apart", StandIn)
    monkeypatch.setattr(steps, "Parity", Parity)
    return seconds, asked


def measured(names, rounds=2, **options):
    known = {s.name: s for s in all_subjects(torch.device("cuda"), "bfloat16")}
    subjects = [known[name] for name in names]
    return steps.measure_steps("mnist", subjects, rounds, CPU, **options)


def test_subjects_have_processes_of_their_own_and_take_turns(stand_ins):
    seconds, asked = stand_ins
    seconds |= {"reference": 4.0, "ours": 1.0}
    measured(seconds)
    turns = ["reference", "ours"]
    assert asked[:2] == ["start reference", "start ours"]
    assert asked[2:-2] == turns * 3  # one to see how long a round is, then two rounds
    assert sorted(asked[-2:]) == ["end ours", "end reference"]


def test_a_turn_takes_a_tenth_of_a_second_or_one_iteration(stand_ins):
    seconds, _ = stand_ins
    seconds |= {"reference": 0.004, "ours": 0.001, "tuned": 4.0}
    found = measured(seconds)["subjects"]
    counts = {name: one["iterations_per_round"] for name, one in found.items()}
    assert counts == {"reference": 25, "ours": 100, "tuned": 1}


def test_the_floor_is_that_of_a_round_s_own_rates(stand_ins):
    """Others take half of the machine in one round, three quarters in the next."""
    seconds, asked = stand_ins
    seconds |= {"reference": 3.0, "ours": [1.0, 1.0, 2.0, 4.0]}
    rates = iter([Rates({"float32": 1e12 / part}, 1e10 / part) for part in (1, 2, 4)])
    meter = SimpleNamespace(measure=lambda: asked.append("rates") or next(rates))
    found = measured(seconds, rounds=3, meter=meter)
    assert asked[2:-2] == ["reference", "ours", *["rates", "reference", "ours"] * 3]
    work = work_of(config_of("mnist", tiny=False))
    floor = work.flop / 1e12 + work.adam_bytes(half=False) / 1e10
    assert found["subjects"]["ours"]["floor_fraction"] == pytest.approx(floor)
    assert found["subjects"]["reference"]["floor_fraction"] == pytest.approx(2 * floor / 3)
    assert found["floor_s"] == {"float32": pytest.approx(2 * floor)}
    assert found["rates"]["flop_per_s"]["float32"]["median"] == 0.5e12
    assert found["rates"]["copy_bytes_per_s"]["max"] == 1e10


def test_what_takes_too_long_is_left_out_and_rounds_end_with_the_time(stand_ins, monkeypatch):
    seconds, _ = stand_ins
    seconds |= {"reference": 80.0, "tuned": 60.0, "ours": 1.0}
    clock = iter([0.0, *[1.0] * 3, 50.0, 101.0])  # start, each to begin, before rounds 2 and 3
    monkeypatch.setattr(steps, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    found = measured(seconds, rounds=9, limit=100.0)["subjects"]
    assert found["reference"]["skipped"] == "it hadn't begun after 69 s"
    assert not any("failed" in one for one in found.values())
    assert found["ours"]["seconds"]["n"] == found["tuned"]["seconds"]["n"] == 2


def test_subjects_that_warm_up_side_by_side_take_turns_all_the_same(stand_ins, monkeypatch):
    seconds, asked = stand_ins
    seconds |= {"reference": 4.0, "ours": 1.0}
    assert measured(seconds)["subjects"]["ours"]["warm_up_s"] == 3.0
    asked.clear()
    both_started = threading.Barrier(2, timeout=60)

    class Waiting(steps.Apart):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            both_started.wait()

    monkeypatch.setattr(steps, "Apart", Waiting)
    found = measured(seconds, together=2)["subjects"]
    assert sorted(asked[:2]) == ["start ours", "start reference"]
    assert asked[2:-2] == ["reference", "ours"] * 3
    assert not {"first_iteration_s", "warm_up_s"} & found["ours"].keys()


def test_ours_is_held_against_the_fastest_of_the_compiled_baselines(stand_ins):
    seconds, _ = stand_ins
    seconds |= {
        "reference": 12.0, "reference-tf32": 1.5, "reference-compile": 8.0,
        "reference-autocast-reduce-overhead": 4.0, "tuned": 3.0, "ours": 1.0,
        "no-graphs": 0.5,
    }  # fmt: skip
    found = measured(seconds)
    assert found["best_compiled"] == "tuned"
    assert found["subjects"]["ours"]["ratio_to"]["best_compiled"]["median"] == 3.0
    assert found["subjects"]["ours"]["ratio_to"]["reference"]["median"] == 12.0
    assert "best_compiled" not in found["subjects"]["tuned"]["ratio_to"]


def test_a_subject_that_breaks_between_rounds_costs_the_others_nothing(stand_ins):
    seconds, _ = stand_ins
    seconds |= {"reference": 4.0, "tuned": [3.0, 3.0], "ours": 1.0}
    found = measured(seconds)["subjects"]
    assert found["tuned"]["failed"].endswith("exit code -11: no message")
    assert "seconds" not in found["tuned"]
    assert found["ours"]["seconds"]["n"] == 2
    assert found["ours"]["ratio_to"].keys() == {"reference"}


def test_a_process_runs_what_it_is_asked_for_and_says_why_it_ended():
    with pytest.raises(TooLate, match="it hadn't begun after 0 s"):
        Apart("mnist", "ours", TINY, within=0.01)
    apart = Apart("mnist", "ours", (*TINY, "--optim", '{"consistency": 1.0}'), within=100.0)
    try:
        began = apart.began
        assert len(began["sums"]) == 2 + 3 + 1  # with consistency's
        assert math.isfinite(sum(began["sums"]))
        assert began["memory"]["peak_bytes"] > began["memory"]["before_bytes"] > 0
        assert began["warm_up_s"] >= began["first_iteration_s"] > 0
        assert all(0 < seconds < 60 for seconds in apart.timed(2))
        apart._process.kill()
        with pytest.raises(RuntimeError, match="its process ended with exit code -9"):
            apart.timed(2)
    finally:
        apart.close()


def test_baselines_on_a_gpu():
    """Float32 with and without TF32, half precision, each compiled; and what an expert writes."""
    found = {s.name: s for s in all_subjects(torch.device("cuda"), "bfloat16")}
    kinds = ("reference", "tuned")
    references = {name: s for name, s in found.items() if name.startswith(kinds)}
    assert not any(s.obstacle for s in references.values())
    assert {name: (s.amp, s.tf32, s.compiled) for name, s in references.items()} == {
        "reference": (False, False, False),
        "reference-tf32": (False, True, False),
        "reference-autocast": (True, False, False),
        "reference-compile": (False, False, True),
        "reference-reduce-overhead": (False, False, True),
        "reference-autocast-reduce-overhead": (True, False, True),
        "tuned": (False, True, True),
        "tuned-amp": (True, True, True),
    }
    assert references.keys() < {*steps.BASELINES}


def settings():
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    return (cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, cudnn.deterministic)


def test_switches_of_baselines_hold_inside_their_steps_alone(monkeypatch):
    """As ``build_engine`` sets them before."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    before = settings()
    found = {s.name: s for s in all_subjects(torch.device("cuda"), "bfloat16")}
    with found["reference-tf32"].around():
        assert settings() == (True, True, False, True)
    assert settings() == before
    with subjects.tuned():
        assert settings() == (True, True, True, False)
    assert settings() == before


def reference_engine():
    config = config_of("celeba", tiny=True)
    return build_engine(replace(config, run=replace(config.run, **dict(REFERENCE))), Plan(CPU))


def test_an_expert_lays_networks_out_and_fuses_adam():
    plain, expert = reference_engine(), reference_engine()
    subjects.tuner(None)(expert)
    for name in ("adam_d", "adam_g"):
        before, after = (getattr(engine, name).param_groups[0] for engine in (plain, expert))
        for key in ("lr", "betas", "eps"):
            assert after[key] == before[key]
        assert after["fused"] and not after["capturable"]  # capturable on a GPU
        assert len(after["params"]) == len(before["params"])
    for network in (expert.generator, expert.discriminator):
        weights = [p for p in network.parameters() if p.dim() == 4]
        assert weights
        assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)


def test_on_a_cpu_the_peer_is_plain_pytorch_in_both_precisions():
    """Its first losses pass the gate; half precision may be emulated here."""
    known = {s.name: s for s in all_subjects(CPU, "bfloat16")}
    peers = [known["tuned"], known["tuned-amp"]]
    assert not any(peer.compiled or peer.tf32 for peer in peers)
    found = steps.measure_steps("mnist", peers, 1, CPU, "bfloat16", tiny=True)["subjects"]
    for peer in peers:
        assert found[peer.name]["seconds"]["median"] > 0, found[peer.name]
    assert found["tuned-amp"]["ratio_to"].keys() == {"tuned"}


@pytest.mark.slow
def test_the_compiled_reference_trains():
    """Its first losses are right; minutes of compiling."""
    known = {s.name: s for s in all_subjects(CPU)}
    found = steps.measure_steps("mnist", [known["reference-compile"]], 1, CPU, tiny=True)
    assert found["subjects"]["reference-compile"]["seconds"]["median"] > 0


def test_a_subject_unknown_to_its_process_is_recorded():
    """With the last line of the process that couldn't begin."""
    found = steps.measure_steps("mnist", [Subject("none", "")], 1, CPU, tiny=True)
    assert found["subjects"]["none"]["failed"].endswith("exit code 1: KeyError: 'none'")
    assert found["best_compiled"] is None
