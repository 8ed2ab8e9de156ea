"""The cost model beside a profile: classes, sums, the committed comparison and its table."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.compile_gate import name_of
from bench.predict import h100, measured
from bench.predict.iteration import count
from bench.predict.work import Work
from fastinfogan.kernels import triton_needs

ROOT = Path(__file__).resolve().parent.parent
FILE = measured.RESULTS / "profile-nvidia-h200.json"


def committed():
    return json.loads(FILE.read_text())


TRACED = {  # as torch's profiler has them
    "sm90_xmma_dgrad_implicit_gemm_indexed_bf16bf16_bf16f32_f32_nhwckrsc_nhwc": "convolution",
    "void cutlass__5x_cudnn::Kernel<cutlass_tensorop_bf16_s16816fprop_optimized": "convolution",
    "void cudnn::engines_precompiled::nchwToNhwcKernel<__nv_bfloat16": "padding for it",
    "void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16": "product",
    "nvjet_sm90_tst_64x8_64x16_2x4_h_bz_TNT": "product",
    "_bn_act_partials_kernel": "`bn_act`, sums",
    "bn_act_backward_kernel": "`bn_act`, applied",
    "_mi_loss_kernel": "losses",
    "Memset (Unknown)": "filling, memsets",
    "void at::native::reduce_kernel<128, 4>": "everything else",
    "triton_poi_fused_convolution_leaky_relu_0": "everything else",
}
MODELLED = {
    "convolution, image side": "convolution",
    "convolution, workspace": "convolution",
    "convolution, memset": "filling, memsets",
    "zeros for padding": "filling, memsets",
    "padding of channels": "padding for it",
    "product, sum of parts": "product",
    "bn_act_backward_partials": "`bn_act`, sums",
    "bn_act_forward": "`bn_act`, applied",
    "gradient of a convolution's bias": "everything else",
    "add": "everything else",
}


def test_a_kernel_and_what_the_model_calls_it_are_of_one_class():
    for names, traced in ((TRACED, True), (MODELLED, False)):
        assert {name: measured.class_of(name, traced=traced) for name in names} == names


@pytest.mark.parametrize("preset", ["mnist", "digits"])
def test_our_kernels_have_classes_of_their_own(preset):
    """As traced and as modelled, the same."""
    for launch in count(preset).ours:
        found = measured.class_of(launch.kernel.__name__, traced=True)
        assert found == measured.class_of(name_of(launch), traced=False)
        assert found != "everything else"


def test_sums_by_hand():
    works = [Work("adam", "1", 4_300_000, bytes_per_s=4.3e12)] * 2 + [
        Work("convolution, memset", "1", 0, node_s=4.45e-6)
    ]
    assert measured.rounded(measured.predicted_of(works)) == {
        "`adam`": [2, 3.8], "filling, memsets": [1, 0.9], "between": [3, 5.3],
    }  # fmt: skip
    kernels = [
        {"name": "_adam_kernel", "calls": 2.0, "us": 4.0},
        {"name": "Memset (Device)", "calls": 1.0, "us": 0.8},
    ]
    profile = {"iteration_us": 9.0, "busy_us": 4.5, "overlap_us": 0.3, "kernels": kernels}
    found = measured.rounded(measured.measured_of(profile))
    assert found == {
        "`adam`": [2.0, 4.0], "filling, memsets": [1.0, 0.8], "between": [3.0, 4.5],
        "overlap": [0, -0.3],
    }  # fmt: skip
    assert sum(us for _, us in found.values()) == pytest.approx(profile["iteration_us"])
    table = measured.tables(
        {"p": {"predicted": found, "measured": found, "iteration_us": [9.9, 9.0]}}
    )
    assert "| `adam` | 4 / 4 (2 / 2) |" in table
    assert table.endswith("| **iteration** | 10 / 9, +10% (3 / 3) |")


def test_the_page_s_table_is_that_of_the_results_file():
    page = measured.DOCS.read_text()
    assert measured.with_table(page, committed()["compared"]) == page


def test_the_committed_profiles_add_up_and_the_model_was_a_third_too_low():
    """What is measured of classes, between and beside is the whole iteration.

    The page says by how much the model of that commit was off, and what it has learned from it.
    """
    content = committed()
    assert FILE.stat().st_size < 60_000 * len(content["profiles"])
    for preset, found in content["compared"].items():
        profile = content["profiles"][preset][measured.SUBJECT]
        again = measured.rounded(measured.measured_of(profile))
        assert again.keys() == found["measured"].keys()
        for name, numbers in again.items():
            assert numbers == pytest.approx(found["measured"][name], abs=0.2)
        predicted, took = found["iteration_us"]
        for kind, whole in (("predicted", predicted), ("measured", took)):
            assert sum(us for _, us in found[kind].values()) == pytest.approx(whole, abs=2.0)
        assert 0.65 < predicted / took < 0.74
        launches = [found[kind]["between"][0] for kind in ("predicted", "measured")]
        assert abs(launches[0] / launches[1] - 1) < 0.06


def test_the_constants_are_those_of_the_profiles():
    """Adam doesn't outrun the memory of the H200, and no kernel takes less than START_S."""
    for found in committed()["compared"].values():
        predicted, took = (found[kind]["`adam`"][1] for kind in ("predicted", "measured"))
        assert predicted < took  # it runs beside others
    kernels = committed()["profiles"]["mnist"][measured.SUBJECT]["kernels"]
    shortest = min(row["us"] / row["calls"] for row in kernels if row["grid"] and row["calls"] >= 1)
    assert 1e6 * h100.START_S < shortest


@pytest.mark.skipif(not triton_needs.INSTALLED, reason="Triton is not installed")
def test_the_command_needs_a_profile_of_uncompiled_iterations(tmp_path):
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({"mnist": {"compiled": {}}}))
    command = [sys.executable, "-m", "bench.predict.measured", path]
    environment = os.environ | {"TRITON_INTERPRET": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.search(r"error: .*: no profile of ours-amp in it", done.stderr)
