"""The check for machines with a GPU: refusals, steps, budget, and a rehearsal of it all."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.gpu_check import __main__ as command
from bench.gpu_check import needs, steps
from bench.gpu_check.check import Check
from bench.gpu_check.learning import summary_of
from bench.gpu_check.steps import Step, run_step, steps_of

ROOT = Path(__file__).resolve().parent.parent


def check_of(tmp_path, **options):
    return Check(argparse.Namespace(out=tmp_path, rehearse=False, **options), tmp_path)


def calling(*command):
    return lambda check: {"printed": check.command(*command)}


def test_a_step_that_breaks_or_hangs_is_recorded(tmp_path):
    """A command with a wrong exit code, one that outlives its second, and a step without a GPU."""
    check = check_of(tmp_path)
    found = {
        name: run_step(name, step, check, left_s=60.0)
        for name, step in {
            "works": Step(calling("echo", "fine"), 1, 60, False),
            "fails": Step(calling("sh", "-c", "echo no such luck; exit 3"), 1, 60, False),
            "hangs": Step(calling("sleep", "60"), 1, 1, False),
            "large": Step(calling("echo"), 61, 90, False),
            "gpu": Step(calling("echo"), 1, 60),
        }.items()
    }
    assert {name: result["status"] for name, result in found.items()} == {
        "works": "ok", "fails": "failed", "hangs": "too long", "large": "left", "gpu": "skipped",
    }  # fmt: skip
    assert found["works"]["printed"] == "fine\n"
    assert found["fails"]["why"] == "exit code 3: no such luck"
    assert found["large"]["why"] == "takes 61 s; 60 s are left"
    assert found["gpu"]["why"] == "no GPU"
    assert "no such luck" in (tmp_path / "report.txt").read_text()


def test_a_step_may_not_take_longer_than_what_is_left(tmp_path):
    check = check_of(tmp_path)
    began = time.monotonic()
    found = run_step("hangs", Step(calling("sleep", "60"), 1, 60, False), check, left_s=1.5)
    assert found["status"] == "too long" and time.monotonic() - began < 10


def test_a_budget_leaves_steps_for_another_session(tmp_path, monkeypatch, capsys):
    """Each step's state is written before it begins, too."""
    seen = []

    def look(check):
        seen.append(json.loads((tmp_path / "report.json").read_text())["short"]["status"])
        return {}

    monkeypatch.setattr(
        command, "steps_of",
        lambda presets: {
            "environment": Step(lambda check: {}, 1, 60, False),
            "short": Step(look, 1, 60, False),
            "long": Step(look, 50, 60, False),
            "longer": Step(look, 70, 90, False),
        },
    )  # fmt: skip
    assert command.main(["--out", str(tmp_path), "--budget", "40"]) == 0
    assert capsys.readouterr().out.endswith("left for another session: --steps long longer\n")
    assert seen == ["running"]
    assert command.main(["--out", str(tmp_path), "--budget", "60", "--steps", "long"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert {name: result["status"] for name, result in report.items()} == {
        "environment": "ok", "short": "ok", "long": "ok", "longer": "left",
    }  # fmt: skip


def test_all_steps_fit_two_sessions_of_ten_minutes():
    """But for DALI, which isn't carried, and the presets after the first."""
    assert sum(s.expected_s for n, s in steps_of(["mnist"]).items() if n != "dali") < 600
    assert sum(s.expected_s for s in steps_of(command.PRESETS).values()) < 1200
    assert all(s.expected_s < s.limit_s <= 300 for s in steps_of(command.PRESETS).values())


def test_what_is_missing_is_listed_before_anything_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(needs.CARRIED, "no_such_module", "no-such-package")
    monkeypatch.setattr(needs, "NATIVE", "no_such_package.kernels._native")
    assert command.main(["--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: gpu_check: not installed here: no-such-package, fastinfogan. ")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"--python-version {python} " in said and f"python{python} -m pip wheel" in said
    assert not (tmp_path / "out").exists()


def test_nothing_that_is_installed_here_is_missing():
    assert needs.missing() == []


def test_a_step_that_is_not_there_is_refused(tmp_path, capsys):
    assert command.main(["--out", str(tmp_path), "--steps", "speed"]) == 2
    assert "--steps speed: environment, smoke, profile-mnist, " in capsys.readouterr().err


def test_what_the_report_says_of_learning():
    study = {"statistics": {"error": {"mean": 0.03}}, "chosen": 6}
    alone = {"command_s": 20.0, "seconds": 2.0}
    assert summary_of({"alone": alone, "study": study, "study_command_s": 60.0}) == {
        "alone_command_s": 20.0, "alone_training_s": 2.0, "study_command_s": 60.0,
        "error": {"mean": 0.03}, "chosen": 6,
    }  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children")
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_started_ends_with_the_check(tmp_path, by):
    """Also a command in a session of its own, and where nobody is left to end it."""
    code = """if True:
        import signal, sys
        from bench.gpu_check import __main__ as command
        from bench.gpu_check.steps import Step
        say = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
        step = Step(lambda check: check.command(sys.executable, "-c", say), 1, 60, False)
        command.steps_of = lambda presets: {"environment": step}
        command.main(["--out", sys.argv[1]])
    """
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], cwd=ROOT, env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    number = until(lambda: (tmp_path / "report.txt").read_text().splitlines()[-1].isdigit())
    assert number
    pid = int((tmp_path / "report.txt").read_text().splitlines()[-1])
    os.kill(process.pid, by)
    process.wait(10)
    assert until(lambda: not running(pid))


def running(pid):
    """A process that has ended may wait for its parent."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def until(condition, seconds=20.0):
    """Whether it comes true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return True
        except (OSError, IndexError):
            pass
        time.sleep(0.05)
    return False


@pytest.mark.slow
def test_the_rehearsal_goes_through_every_step(tmp_path):
    """As on another machine: the checkout on PYTHONPATH, from another folder."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "BENCH_COMMIT": "x"}
    done = subprocess.run(
        [sys.executable, "-m", "bench.gpu_check", "--rehearse", "--out", tmp_path / "out"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert done.returncode == 0, report
    assert list(report) == list(steps_of(["mnist"]))
    assert {r["status"] for n, r in report.items() if n != "dali"} == {"ok"}
    assert report["environment"]["commit"] == "x"
    assert len(list((tmp_path / "out").iterdir())) <= 8  # as many files as some places give back


def test_a_rehearsal_of_the_kernels(tmp_path):
    options = {"options": argparse.Namespace(out=tmp_path, rehearse=True)}
    check = Check(scratch=tmp_path, **options)
    found = run_step("kernels", Step(steps.kernels, 40, 120), check, left_s=120.0)
    assert found["status"] == "ok", found
    rows = json.loads((tmp_path / "kernels.json").read_text())["rows"]
    assert {row["name"] for row in rows} == {"bn_act", "bn_act, both ways", "adam"}
    for row in rows:
        assert row["gb_per_s"] == pytest.approx(row["moved_bytes"] / row["us"] / 1e3)
        assert row["of_copy"] == pytest.approx(row["copy_us"] / row["us"])
