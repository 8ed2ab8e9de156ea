"""Signals: whichever asks, a run saves, stops, and goes on as if nothing had happened."""

from __future__ import annotations

import os
import signal

import pytest
from training_runs import assert_same_run, small

from fastinfogan.training.checkpoint import list_checkpoints
from fastinfogan.training.session import STOPPING, Signals
from fastinfogan.training.trainer import train

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")


@pytest.fixture(autouse=True)
def as_in_a_terminal():
    """As a shell hands them to a command: under nohup, or in the background, some are ignored."""
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def sent(spoil):
    """sent(number, ...): signals that this process gets before the 8th iteration."""

    def install(*numbers):
        def before(engine, call):
            for number in numbers if call == 8 else ():
                os.kill(os.getpid(), number)

        spoil(before=before)

    return install


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGTERM"])
def test_a_run_saves_and_goes_on(tmp_path, sent, brief, straight, capsys, name):
    number = getattr(signal, name)
    sent(number)
    out = tmp_path / "run"
    run = train(small(out, 15))
    assert run.interrupted == number and run.iteration == 8
    assert list_checkpoints(out / "checkpoints")[0].stem == "step_00000008"
    assert f"stopped by {name} after iteration 8" in capsys.readouterr().out
    sent()
    train(resume=out)
    assert_same_run(out, straight)
    assert signal.getsignal(number) is signal.SIG_DFL


def test_what_is_to_be_typed_next_can_be_copied(tmp_path, sent, brief, capsys):
    sent(signal.SIGTERM)
    train(small(tmp_path / "my run", 15))
    assert f"continue with: fastinfogan train --resume '{tmp_path}/my run'" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "names",
    [
        ("SIGHUP", "SIGHUP"),  # the terminal's, and the shell's
        ("SIGTERM", "SIGHUP"),  # systemd
        ("SIGHUP", "SIGTERM"),  # logging out
        ("SIGUSR1", "SIGUSR1", "SIGTERM"),  # a batch system's warnings, and its last
    ],
)
def test_those_that_come_together_do_not_end_the_saving(tmp_path, sent, brief, names):
    numbers = [getattr(signal, name) for name in names]
    sent(*numbers)
    run = train(small(tmp_path / "run", 15))
    assert run.interrupted == numbers[0] and run.iteration == 8


def test_a_second_ctrl_c_ends_it_at_once(tmp_path, sent, brief):
    sent(signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(small(tmp_path / "run", 15))


def test_nohup_is_respected(tmp_path, sent, brief, straight):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        sent(signal.SIGHUP)
        run = train(small(tmp_path / "run", 15))
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert run.interrupted is None and run.iteration == 15
    assert_same_run(run.folder, straight)


def test_handlers_are_put_back():
    before = {number: signal.getsignal(number) for number in STOPPING}
    with Signals() as signals:
        assert signal.getsignal(signal.SIGHUP) not in before.values()
        os.kill(os.getpid(), signal.SIGHUP)
        assert signals.received == signal.SIGHUP
    assert before == {number: signal.getsignal(number) for number in STOPPING}
