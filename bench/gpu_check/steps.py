"""The steps of the check, in the order in which they are worth their time."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.gpu_check.check import PYTHON, Check, Failed, Skipped
from bench.gpu_check.learning import learn

FACTS = """
import json
from importlib.metadata import distributions
from bench import machine
from bench.harness import DEVICE
wanted = ("torch", "triton", "numpy", "cuda-toolkit") + tuple(
    f"nvidia-{name}" for name in ("dali", "cudnn", "cublas")
)
packages = {d.name: d.version for d in distributions() if d.name.lower().startswith(wanted)}
print(json.dumps(machine.describe(DEVICE) | {"packages": packages}))
"""
PROFILED = "ours-amp"
TIMED = (
    "tuned-amp", "tuned", "reference", "reference-autocast-reduce-overhead", "ours-amp", "early",
    "no-kernels",
)  # fmt: skip
TO_WRITE_S = 15  # of timing: Python's start, the floor's rates, the last round
# Whole iterations, compiled and recorded: the tests that take longest.
ENGINES = ("tests/test_graph.py", "tests/test_engines.py", "tests/test_full_size.py")


@dataclass(frozen=True)
class Step:
    """A step of the check.

    Attributes:
        run: does it, and returns what the report says of it.
        expected_s: seconds that it took on an H200 with 16 cores, or was sized to take; it isn't
            begun with less time left.
        limit_s: seconds after which it is stopped.
        needs_gpu: it means nothing without one.
    """

    run: Callable[[Check], dict[str, Any]]
    expected_s: int
    limit_s: int
    needs_gpu: bool = True


def environment(check: Check) -> dict[str, Any]:
    """Which GPU, which versions, which commit."""
    facts = json.loads(check.command(PYTHON, "-c", FACTS).splitlines()[-1])
    check.gpu = facts["hardware"].get("gpu")
    if check.gpu is not None and shutil.which("nvidia-smi"):
        check.command("nvidia-smi")
    return facts


def smoke(check: Check) -> dict[str, Any]:
    """One kernel, one compiled function, one graph."""
    return json.loads(check.command(PYTHON, "-m", "bench.gpu_check.smoke").splitlines()[-1])


def profile(preset: str, check: Check) -> dict[str, Any]:
    """Every kernel of a replayed iteration; profile.json grows."""
    found = check.load("profile.json")
    subject, flags = ("ours", ("--tiny",)) if check.rehearsal else (PROFILED, ())
    one = (check.scratch / "profile.json").resolve()
    check.command(PYTHON, "-m", "bench.profile_step", preset, subject, *flags, "--out", one)
    profiled = found.setdefault(preset, {})[subject] = json.loads(one.read_text())
    check.save("profile.json", found)
    return {
        "iteration_us": round(profiled["iteration_us"], 1),
        "times_floor": round(profiled["iteration_us"] / profiled["floor_us"], 2),
        "launches": sum(kernel["calls"] for kernel in profiled["kernels"]),
    }


def timing(preset: str, check: Check) -> dict[str, Any]:
    """An iteration beside the references'; training.json grows."""
    out = (check.out / "training.json").resolve()
    subjects, sizes = (("reference", "ours"), ("--tiny",)) if check.rehearsal else (TIMED, ())
    left = max(1, round(check.deadline - time.monotonic()) - TO_WRITE_S)
    check.command(
        PYTHON, "-m", "bench.training", "--presets", preset, "--only", *subjects,
        "--rounds", check.options.rounds, "--together", len(subjects), "--limit", left, *sizes,
        "--out", out,
    )  # fmt: skip
    measured = json.loads(out.read_text())["presets"][preset]["subjects"]
    return {
        name: {
            "us": round(1e6 * found["seconds"]["median"], 1),
            "ratio_to": {base: round(r["median"], 2) for base, r in found["ratio_to"].items()},
        }
        for name, found in measured.items()
        if "seconds" in found
    }


def tests(which: Sequence[str], check: Check) -> dict[str, Any]:
    """Tests marked gpu, several processes at a time."""
    # -v: what has failed is in the log although the time ends before the summary.
    flags = ("-v", "-ra", "--durations=12", "-p", "no:cacheprovider")
    if check.rehearsal:
        which = ("tests/test_random.py",)
    else:
        flags += ("-m", "gpu", "-n", "8")
    printed = check.command(PYTHON, "-m", "pytest", *flags, *which)
    return {"says": printed.strip().splitlines()[-1]}


def kernels(check: Check) -> dict[str, Any]:
    """Kernels' times in graphs, and how many bytes a second; kernels.json has them."""
    out = (check.out / "kernels.json").resolve()
    flags = ("--tiny", "--presets", "mnist") if check.rehearsal else ()
    check.command(PYTHON, "-m", "bench.kernel_times", *flags, "--out", out)
    found = json.loads(out.read_text())
    return {"slowest_large_bn_act_of_copy": found["slowest_large_bn_act_of_copy"]}


def dali(check: Check) -> dict[str, Any]:
    """Ingest rate and streamed feed."""
    if check.rehearsal or importlib.util.find_spec("nvidia.dali") is None:
        raise Skipped("DALI is not installed" if not check.rehearsal else "it takes minutes")
    flags = ("--benchmark-only", "-q", "-p", "no:cacheprovider")
    printed = check.command(PYTHON, "-m", "pytest", "bench/bench_data.py", *flags)
    return {"says": printed.strip().splitlines()[-1]}


def steps_of(presets: Sequence[str]) -> dict[str, Step]:
    """Every step by its name, in order; the first preset is looked at before its tests."""
    rest = tuple(f"--ignore={path}" for path in ENGINES)

    def of(preset: str) -> dict[str, Step]:
        return {
            f"profile-{preset}": Step(partial(profile, preset), 45, 120),
            f"time-{preset}": Step(partial(timing, preset), 75, 300),
        }

    steps = {"environment": Step(environment, 10, 60, False), "smoke": Step(smoke, 25, 90)}
    steps |= of(presets[0])
    steps["engines"] = Step(partial(tests, ENGINES), 110, 240)
    for preset in presets[1:]:
        steps |= of(preset)
    return steps | {
        "parity": Step(partial(tests, ("tests", *rest)), 80, 240),
        "kernels": Step(kernels, 40, 120),
        "learning": Step(learn, 100, 300),
        "dali": Step(dali, 120, 300),
    }


def run_step(name: str, step: Step, check: Check, left_s: float) -> dict[str, Any]:
    """Run one step; whatever happens in it, this returns what to write into the report.

    Args:
        name: its name.
        step: what it is.
        check: what the steps share.
        left_s: seconds that are left of the whole check's.
    """
    began = time.monotonic()
    check.deadline = began + min(step.limit_s, left_s)
    try:
        if step.needs_gpu and check.gpu is None and not check.rehearsal:
            raise Skipped("no GPU")
        if left_s < step.expected_s and not check.rehearsal:
            return {"status": "left", "why": f"takes {step.expected_s} s; {left_s:.0f} s are left"}
        result = {"status": "ok", **step.run(check)}
        if step.needs_gpu and check.gpu is None:
            result["note"] = "no GPU: a rehearsal on the CPU"
    except Skipped as reason:
        result = {"status": "skipped", "why": str(reason)}
    except subprocess.TimeoutExpired:
        result = {"status": "too long", "why": f"stopped after {time.monotonic() - began:.0f} s"}
    except Failed as error:
        result = {"status": "failed", "why": str(error)}
    except Exception as error:
        result = {"status": "failed", "why": f"{type(error).__name__}: {error}"}
    return {**result, "took_s": round(time.monotonic() - began, 1)}
