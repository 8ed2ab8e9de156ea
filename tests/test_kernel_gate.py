"""The compile gate: every Triton kernel fits every GPU it may meet, compiled with none present."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench import compile_gate
from bench.compile_gate import SHARED_LIMIT, Usage
from fastinfogan.config import PRESETS, folder_architecture
from fastinfogan.kernels import triton_module
from fastinfogan.kernels.codes import MAX_CATEGORIES, MAX_CODES
from fastinfogan.model.latent_spec import make_spec, parse_codes
from fastinfogan.model.networks import Discriminator, Generator

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not triton_module.INSTALLED, reason="Triton is not installed")


@pytest.fixture
def run():
    """Runs Python in another process: this one's kernels are interpreted, and can't be compiled."""

    def run(*command, interpret="0"):
        environment = os.environ | {"TRITON_INTERPRET": interpret}
        return subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )

    return run


def test_one_launch_of_each_kernel_compiles_for_every_gpu(run):
    code = """if True:
        from bench import compile_gate as gate
        first = {}
        for launch in gate.launches():
            first.setdefault(launch[0].__name__, launch)
        usages = list(gate.measure(list(first.values())))
        assert len(usages) == len(gate.SHARED_LIMIT) * len(first), usages
        assert not any(usage.fault for usage in usages), gate.table(usages)
        assert all(0 < usage.registers <= 255 for usage in usages)
        print(len(first))
    """
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 4


@pytest.mark.slow
def test_the_command_passes_and_prints_a_row_per_kernel_and_gpu(run):
    done = run("-m", "bench.compile_gate")
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| `")]
    assert {int(row[2]) for row in rows} == set(SHARED_LIMIT)
    assert {row[1] for row in rows} == {"float32", "bfloat16", "float16", "int64"}


def test_the_command_refuses_where_kernels_are_interpreted(run):
    done = run("-m", "bench.compile_gate", interpret="1")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: compile_gate: TRITON_INTERPRET=1")


@pytest.mark.parametrize(
    ("spilled", "shared", "fault"),
    [
        (0, 65_536, ""),
        (8, 0, "spills 8 bytes"),
        (0, 65_537, "wants 65537 bytes of 65536"),
    ],
)
def test_what_fails_the_gate(spilled, shared, fault):
    assert Usage("k", "float32", "", 75, 32, spilled, shared).fault == fault


def test_the_shapes_are_those_of_the_presets():
    """Every layer with batchnorm of every preset, and of folders of any size, at batch 128."""
    batch, found = 128, set()
    tables = [(p.architecture, make_spec(p.noise, p.codes)) for p in PRESETS.values()]
    spec = make_spec(62, "cat10")
    tables += [(folder_architecture(size, 3), spec) for size in (16, 32, 64, 128)]
    for architecture, codes in tables:
        for rows in architecture.rows(codes).values():
            for layer, _, shape in rows:
                if not layer.norm:
                    continue
                flat = layer.kind == "fc"  # normalised before it becomes a map
                pixels = 1 if flat else shape[1] * shape[2]
                found.add((batch * pixels, layer.features))
    assert found == set(compile_gate.BN_ACT_SHAPES)


def test_adam_s_sizes_are_those_of_the_network_with_the_most_parameters():
    networks = []
    for preset in PRESETS.values():
        spec = make_spec(preset.noise, preset.codes)
        with torch.device("meta"):
            networks.append(Generator(preset.architecture, spec))
            networks.append(Discriminator(preset.architecture, spec, separate_q=False))
    sizes = [tuple(p.numel() for p in network.parameters()) for network in networks]
    assert max(sizes, key=lambda s: (len(s), sum(s))) == compile_gate.ADAM_SIZES


def test_the_codes_are_those_of_the_presets():
    presets = {make_spec(p.noise, p.codes).codes for p in PRESETS.values()}
    largest = parse_codes(f"{MAX_CODES}xcat{MAX_CATEGORIES}")
    assert presets | {largest} == set(compile_gate.MI_LOSS_CODES)


def test_launches_are_recorded_once_per_thing_to_compile():
    seen = compile_gate.launches()
    assert triton_module.recorded == []
    kernels = {kernel.__name__ for kernel, _, _ in seen}
    assert kernels == {
        "bn_act_partials_kernel",
        "bn_act_forward_kernel",
        "bn_act_backward_partials_kernel",
        "bn_act_backward_kernel",
        "_adam_kernel",
        "_latents_kernel",
        "_gather_kernel",
        "_draw_kernel",
        "_order_kernel",
        "_mi_loss_kernel",
        "_consistency_kernel",
    }
    dtypes = {args[0].dtype for _, args, _ in seen} - {torch.int64}  # order's
    assert dtypes == {torch.float32, torch.bfloat16, torch.float16}
