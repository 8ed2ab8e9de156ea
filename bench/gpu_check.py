"""Everything worth knowing on a machine with a GPU, in one go, without a network.

Install first, with nothing fetched (torch, nanobind and scikit-build-core must be there):

    pip install --no-build-isolation --no-deps -e .
    python bench/gpu_check.py --out results

Each step has a time limit, and one that fails or takes too long is recorded and passed over. What
is found is written at once to --out (default: $OUT, else gpu_check):

    report.json    each step: ok, failed, too long or skipped, why, and its seconds
    report.txt     what all commands printed
    training.json  python -m bench.training
    profile.json   python -m bench.profile_step, by preset
    learning.json  digits --amp, several seeds: wall time, L_I, error
    pictures.zip   the run directory's pictures of the median seed

--steps takes some of them, so that several short sessions add up. --rehearse goes through
everything on a CPU, on tiny sizes, in two minutes; it shows that the script works, nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
FACTS = """
import json, platform, torch
from importlib.metadata import distributions
wanted = ("torch", "triton", "numpy", "nvidia-dali", "fastinfogan", "cuda-toolkit", "nvidia-cudnn")
gpu = torch.cuda.is_available()
print(json.dumps({
    "gpu": torch.cuda.get_device_name(0) if gpu else None,
    "capability": torch.cuda.get_device_capability(0) if gpu else None,
    "cuda": torch.version.cuda,
    "cudnn": torch.backends.cudnn.version(),
    "python": platform.python_version(),
    "packages": {d.name: d.version for d in distributions() if d.name.lower().startswith(wanted)},
}))
"""


class Failed(Exception):
    """A step has not done what it should; says why."""


class Skipped(Exception):
    """A step has nothing to do here; says why."""


@dataclass
class Check:
    """What the steps share.

    Attributes:
        options: of the command line.
        gpu: its name; None if there is none, or nobody has looked yet.
        deadline: when the current step's time is over, by ``time.monotonic``.
    """

    options: argparse.Namespace
    gpu: str | None = None
    deadline: float = 0.0

    @property
    def out(self) -> Path:
        """The results folder."""
        return self.options.out

    def command(self, *arguments: object, cwd: Path = ROOT) -> str:
        """Run a command until the step's deadline, and add what it prints to report.txt.

        Args:
            arguments: the command.
            cwd: the folder that it runs in.

        Returns:
            What it printed.

        Raises:
            Failed: its exit code isn't 0.
            subprocess.TimeoutExpired: it took too long, and was killed with all it had started.
        """
        command = [str(argument) for argument in arguments]
        with (self.out / "report.txt").open("a+") as log:
            log.write(f"\n$ {' '.join(command)}\n")
            log.flush()
            begins = log.seek(0, os.SEEK_END)
            process = subprocess.Popen(
                command, cwd=cwd, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
            try:
                code = process.wait(max(1.0, self.deadline - time.monotonic()))
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise
            log.seek(begins)
            printed = log.read()
        if code != 0:
            last = (printed.strip().splitlines() or ["nothing printed"])[-1]
            raise Failed(f"exit code {code}: {last[:500]}")
        return printed

    def save(self, name: str, content: Any) -> None:
        """Write JSON into the results folder, whole or not at all."""
        path = self.out / name
        path.with_suffix(".new").write_text(json.dumps(content, indent=1) + "\n")
        path.with_suffix(".new").replace(path)

    def load(self, name: str) -> Any:
        """JSON from the results folder; an empty dict if it isn't there."""
        path = self.out / name
        return json.loads(path.read_text()) if path.exists() else {}


# -- Steps ---------------------------------------------------------------------------------------


def environment(check: Check) -> dict[str, Any]:
    """Which GPU, which versions."""
    facts = json.loads(check.command(PYTHON, "-c", FACTS).splitlines()[-1])
    check.gpu = facts["gpu"]
    if check.gpu is not None:
        facts["nvidia-smi"] = check.command("nvidia-smi")
    return facts


def tests(check: Check) -> dict[str, Any]:
    """Parity on the device."""
    flags = ("-m", "gpu", "-q", "-ra", "-p", "no:cacheprovider")
    printed = check.command(PYTHON, "-m", "pytest", *flags)
    return {"says": printed.strip().splitlines()[-1]}


def kernels(check: Check) -> dict[str, Any]:
    """Each op against its baselines: the quick ones; the iteration has a step of its own."""
    pytest = (PYTHON, "-m", "pytest", "bench", "-q", "-p", "no:cacheprovider")
    if check.options.rehearse:
        printed = check.command(*pytest, "--benchmark-disable", "--tiny", "-k", "latents")
    else:
        printed = check.command(
            *pytest, "--benchmark-only", "--benchmark-columns=min,median,iqr,rounds",
            "-k", "not compiled and not data",
        )  # fmt: skip
    return {"says": printed.strip().splitlines()[-1]}


def training(check: Check) -> dict[str, Any]:
    """The iteration and its ablation, every preset; the file grows preset by preset."""
    rehearse = check.options.rehearse
    sizes = ("--tiny",) if rehearse else ("--command", 2000)
    check.command(
        PYTHON, "-m", "bench.training", "--presets", *check.options.presets,
        "--rounds", check.options.rounds, *sizes, "--out", (check.out / "training.json").resolve(),
        *(("--only", "reference", "ours") if rehearse else ()),
    )  # fmt: skip
    return {}


def profiles(check: Check) -> dict[str, Any]:
    """Every kernel of a replayed iteration of ours."""
    found, failures = check.load("profile.json"), []
    for preset in check.options.presets:
        one = (check.out / "one.json").resolve()
        flags = ("--tiny",) if check.options.rehearse else ("--amp",)
        try:
            check.command(PYTHON, "-m", "bench.profile_step", preset, *flags, "--out", one)
            found[preset] = json.loads(one.read_text())
            check.save("profile.json", found)
        except Failed as error:
            failures.append(f"{preset}: {error}")
        finally:
            one.unlink(missing_ok=True)
    if failures:
        raise Failed("; ".join(failures))
    return {
        preset: {
            "iteration_us": p["iteration_us"],
            "times_floor": p["iteration_us"] / p["floor_us"],
            "largest": [kernel["name"][:80] for kernel in p["kernels"][:3]],
        }
        for preset, p in found.items()
    }


def learning(check: Check) -> dict[str, Any]:
    """Training on digits until the end, several seeds."""
    runs_folder = check.options.scratch.resolve() / "runs"
    flags = ("--preset", "mnist-mlp") if check.options.rehearse else ("--amp",)
    runs: list[dict[str, Any]] = []
    failures = []
    for seed in range(check.options.seeds):
        folder = runs_folder / f"seed-{seed}"
        began = time.monotonic()
        try:
            check.command(
                PYTHON, "-m", "fastinfogan", "train", "--dataset", "digits", "--seed", seed,
                "--iterations", check.options.iterations, "--sample-every", 0,
                "--checkpoint-every", check.options.iterations, "--log-every", 500,
                "--out", folder, *flags, cwd=check.options.scratch,
            )  # fmt: skip
        except Failed as error:
            failures.append(f"seed {seed}: {error}")
            continue
        runs.append(read_run(folder, seed, time.monotonic() - began))
        found = learning_of(runs)
        check.save("learning.json", {**found, "iterations": check.options.iterations})
        median = runs_folder / f"seed-{found['median_seed']}"
        with zipfile.ZipFile(check.out / "pictures.zip", "w") as pictures:
            for path in sorted(median.glob("*.png")):
                pictures.write(path, f"{median.name}/{path.name}")
    if failures:
        raise Failed("; ".join(failures))
    return {key: found[key] for key in ("n", "seconds", "mi", "error", "median_seed")}


def read_run(folder: Path, seed: int, command_s: float) -> dict[str, Any]:
    """What a finished run's summary.json says: seconds, L_I and error of its best code."""
    summary = json.loads((folder / "summary.json").read_text())
    evaluation = summary["evaluation"]
    best = min(evaluation["clusterings"], key=lambda c: c["error_hungarian"])
    mi = next(code["mi"] for code in evaluation["codes"] if code["name"] == best["code"])
    return {
        "seed": seed, "seconds": summary["seconds"], "command_s": command_s, "code": best["code"],
        "mi": mi, "error": best["error_hungarian"], "error_majority": best["error_majority"],
        "nmi": best["nmi"], "ari": best["ari"],
        "images_per_s": summary["last_metrics"]["images_per_s"],
    }  # fmt: skip


def learning_of(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean, standard deviation and worst of several runs, and which is the one in the middle."""
    found: dict[str, Any] = {"n": len(runs), "runs": list(runs)}
    for key, worst in (("seconds", max), ("mi", min), ("error", max)):
        values = [run[key] for run in runs]
        found[key] = {
            "mean": statistics.mean(values),
            "std": statistics.stdev(values) if len(values) > 1 else None,
            "worst": worst(values),
        }
    by_error = sorted(runs, key=lambda run: run["error"])
    found["median_seed"] = by_error[(len(runs) - 1) // 2]["seed"]
    return found


def dali(check: Check) -> dict[str, Any]:
    """Ingest rate and streamed feed."""
    bench = ROOT / "bench" / "bench_data.py"
    try:
        check.command(PYTHON, "-c", "import nvidia.dali")
    except Failed:
        raise Skipped("DALI is not installed") from None
    if not bench.exists():
        raise Skipped("this version has no bench/bench_data.py")
    printed = check.command(
        PYTHON, "-m", "pytest", bench, "--benchmark-only", "-q", "-p", "no:cacheprovider"
    )
    return {"says": printed.strip().splitlines()[-1]}


# name: what it does, limit in seconds, whether it means nothing without a GPU
STEPS: dict[str, tuple[Callable[[Check], dict[str, Any]], int, bool]] = {
    "environment": (environment, 60, False),
    "tests": (tests, 900, True),
    "kernels": (kernels, 600, True),
    "training": (training, 1500, True),
    "profiles": (profiles, 600, True),
    "learning": (learning, 1500, True),
    "dali": (dali, 300, True),
}


def run_step(name: str, check: Check) -> dict[str, Any]:
    """Run one step; whatever happens in it, this returns what to write into the report."""
    function, limit, needs_gpu = STEPS[name]
    began = time.monotonic()
    check.deadline = began + min(limit, check.options.limit or limit)
    try:
        if needs_gpu and check.gpu is None and not check.options.rehearse:
            raise Skipped("no GPU")
        result = {"status": "ok", **function(check)}
        if needs_gpu and check.gpu is None:
            result["note"] = "no GPU: a rehearsal on the CPU"
    except Skipped as reason:
        result = {"status": "skipped", "why": str(reason)}
    except subprocess.TimeoutExpired:
        result = {"status": "too long", "why": f"stopped after {time.monotonic() - began:.0f} s"}
    except Exception as error:
        result = {"status": "failed", "why": f"{type(error).__name__}: {error}"}
    return {**result, "took_s": round(time.monotonic() - began, 1)}


def main() -> int:
    """Run the steps. Exit code 1 if one failed or took too long."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "gpu_check")))
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--limit", type=int, metavar="SECONDS", help="shorter limits for each step")
    parser.add_argument("--presets", nargs="+", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes, a CPU will do")
    options = parser.parse_args()
    rehearse = options.rehearse
    presets = ["mnist"] if rehearse else ["mnist", "celeba", "chairs-rotation"]
    options.presets = options.presets or presets
    options.seeds = options.seeds or (2 if rehearse else 10)
    options.iterations = options.iterations or (5 if rehearse else 20_000)
    options.out.mkdir(parents=True, exist_ok=True)
    check = Check(options)
    report = check.load("report.json")
    # The other steps need to know what the first one finds.
    steps = ["environment", *(name for name in options.steps if name != "environment")]
    with tempfile.TemporaryDirectory() as scratch:
        options.scratch = Path(scratch)
        for name in steps:
            print(f"{name} ...", flush=True)
            report[name] = run_step(name, check)
            check.save("report.json", report)
            brief = {k: v for k, v in report[name].items() if k != "nvidia-smi"}
            print(f"{name}: {json.dumps(brief)}", flush=True)
    return int(any(report[name]["status"] in ("failed", "too long") for name in steps))


if __name__ == "__main__":
    sys.exit(main())
