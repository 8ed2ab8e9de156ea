"""The kernels for narrower processors than this one, which torch's own switch asks for."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
LEFT = {"avx2": {"avx2", "fma"}, "default": set()}  # of what x86 has
OPS = (
    "adam_values", "bn_act_values", "consistency_values", "conv_winograd", "kernel_conv",
    "kernel_dense", "kernel_gather", "kernel_latents", "kernel_linear", "mi_loss_values",
    "warp_values",
)  # fmt: skip
x86_only = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="x86 has several widths"
)


def run(capability: str, *command: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, *command], cwd=HERE.parent, capture_output=True, text=True,
        env={**environment, "ATEN_CPU_CAPABILITY": capability}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@x86_only
@pytest.mark.parametrize("capability", LEFT)
def test_kernels_keep_to_what_torch_keeps_to(capability):
    code = (
        "import json, torch\n"
        "from fastinfogan.kernels import native_module\n"
        "features = native_module.find()[0].cpu_features()\n"
        "told = torch.backends.cpu.get_cpu_capability()\n"
        "print(json.dumps([told, [name for name, has in features.items() if has]]))\n"
    )
    # -I: the checkout's ./fastinfogan would hide the installed one.
    told, has = json.loads(run(capability, "-I", "-c", code))
    assert told == capability.upper() and set(has) <= LEFT[capability]


@x86_only
@pytest.mark.parametrize("capability", ["avx2", pytest.param("default", marks=pytest.mark.slow)])
def test_they_compute_what_the_reference_does(capability):
    """The parity tests of the widest ones, again: only few processors would come to run these."""
    files = [str(HERE / f"test_{op}.py") for op in OPS]
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", "parity and not triton")
    said = run(capability, "-m", "pytest", *options, *files)
    assert int(said.splitlines()[-1].split(" passed")[0].split()[-1]) > 300, said[-300:]
