"""torchrun --max-restarts: ranks are killed at random moments, and the run is what it would be."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from crashes import Ask, ranks_of
from training_runs import NARROW, assert_same_run

COMMAND = Path(__file__).resolve().parents[1] / "rank_command.py"
PATIENCE = 600  # seconds, in which something must happen
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def workers(agent: subprocess.Popen) -> list[int]:
    """The processes that torchrun has started and that are alive."""
    try:
        children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text()
    except OSError:
        return []
    return [int(pid) for pid in children.split()]


def rows(out: Path) -> int:
    try:
        return (out / "metrics.jsonl").read_bytes().count(b"\n")
    except OSError:
        return 0


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_a_run_whose_ranks_are_killed_is_finished_as_if_nothing_had_happened(
    crashes, tmp_path, kills
):
    iterations = str(40 * kills)
    train = [iterations if word == "12" else word for word in NARROW]
    train += ["--checkpoint-every", "8", "--sample-every", "0"]
    whole, out = tmp_path / "whole", tmp_path / "run"
    ask = Ask((*train, "--out", str(whole)), tmp_path, whole)
    ended = crashes.run(*ranks_of(ask, ask))
    assert [one.code for one in ended] == [0, 0], ended

    chance = random.Random(kills)
    agent = subprocess.Popen(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            "--max-restarts", str(kills + 1), "--monitor-interval", "0.1", str(COMMAND), *train,
            "--resume", str(out), "--or-start",
        ],
        cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        for kill in range(kills):
            seen, deadline = rows(out), time.monotonic() + PATIENCE
            # The first dies with a checkpoint there, later ones wherever they are: starting, too.
            at_work = kill == 0 or chance.random() < 0.7
            while len(workers(agent)) < 2 or (at_work and rows(out) < seen + 4):
                assert agent.poll() is None, agent.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            time.sleep(chance.random() * (0.2 if at_work else 3))
            for pid in chance.sample(workers(agent), 1):
                os.kill(pid, signal.SIGKILL)
                while pid in workers(agent):  # torchrun has seen it
                    time.sleep(0.02)
        output, _ = agent.communicate(timeout=PATIENCE)
    finally:
        left = workers(agent)
        agent.kill()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert agent.returncode == 0, output
    assert "continuing after iteration " in output
    assert_same_run(out, whole)
