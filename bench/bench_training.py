"""One training iteration of every subject on each kind of preset; its losses are checked first.

    pytest bench/bench_training.py --benchmark-group-by=param:preset

One after the other: for ratios take ``python -m bench.training``, whose subjects take turns.
"""

from __future__ import annotations

import functools

import pytest
from narrow import narrow_presets

from bench.harness import DEVICE
from bench.runner import Parity, Runner, config_of
from bench.steps import timed, warm_up
from bench.subjects import all_subjects, amp_type

SUBJECTS = {subject.name: subject for subject in all_subjects(DEVICE)}


@pytest.fixture(scope="module", autouse=True)
def _narrow_presets():
    with narrow_presets():
        yield


@functools.cache
def parity_of(preset: str, tiny: bool) -> Parity:
    return Parity(config_of(preset, tiny), DEVICE)


@pytest.mark.parametrize("name", SUBJECTS)
@pytest.mark.parametrize("preset", ["mnist", "celeba", "mnist-mlp"])
def bench_training(benchmark, request, preset, name):
    subject, tiny = SUBJECTS[name], request.config.getoption("--tiny")
    if subject.obstacle:
        pytest.skip(subject.obstacle)
    if tiny and subject.compiles:
        pytest.skip("compiling takes longer than everything else here")
    config = config_of(preset, tiny)
    runner = Runner(subject, config, DEVICE)
    warm = warm_up(subject, runner, parity_of(preset, tiny), amp_type(DEVICE, "auto"), DEVICE)
    benchmark.extra_info.update(warm, images_per_iteration=config.optim.batch_size)
    count = 10 if DEVICE.type == "cuda" else 1  # as many as a recorded graph holds
    benchmark.pedantic(timed, (runner, count, DEVICE), rounds=1 if tiny else 10)
