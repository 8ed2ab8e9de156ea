"""Which implementation runs: auto's choice, and the error where the one asked for can't."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from fastinfogan.kernels import dispatch, triton_module, triton_needs
from fastinfogan.kernels.conv import tiles
from fastinfogan.kernels.dispatch import choose

DTYPES = dict(native=(torch.float32, torch.float64), triton=(torch.float32, torch.float16))
X = torch.zeros(2)


def test_auto_takes_native_on_the_cpu():
    assert choose("op", "auto", X, **DTYPES) == "native"


def test_auto_takes_the_reference_for_a_dtype_without_kernel():
    assert choose("op", "auto", X.half(), **DTYPES) == "reference"


def test_auto_decides_for_tensors_without_data_as_for_a_gpu():
    assert choose("op", "auto", X.to("meta"), **DTYPES) == "triton"
    assert choose("op", "auto", X.double().to("meta"), **DTYPES) == "reference"


def test_auto_takes_the_reference_where_the_module_is_not_built(monkeypatch):
    monkeypatch.setattr(dispatch, "NATIVE", None)
    assert choose("op", "auto", X, **DTYPES) == "reference"


@pytest.mark.gpu
def test_auto_takes_triton_on_a_gpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    assert choose("op", "auto", X.cuda(), **DTYPES) == "triton"


@pytest.mark.parametrize("impl", ["reference", "native"])
def test_an_explicit_choice_is_kept(impl):
    assert choose("op", impl, X, **DTYPES) == impl


def refusal(impl, x):
    with pytest.raises(RuntimeError) as caught:
        choose("op", impl, x, **DTYPES)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_native_says_why_it_can_not_run(monkeypatch):
    start = "op: impl='native' can't run: "
    assert refusal("native", X.half()) == start + "it has no float16 kernel"
    assert refusal("native", X.to("meta")) == (
        start + "it takes CPU tensors, and this one is on meta"
    )
    monkeypatch.setattr(dispatch, "NATIVE", None)
    monkeypatch.setattr(dispatch, "_NATIVE_MISSING", "not built; pip install . builds it")
    assert refusal("native", X) == (
        start + "the native module is not built; pip install . builds it"
    )


def test_triton_says_why_it_can_not_run(monkeypatch):
    start = "op: impl='triton' can't run: "
    monkeypatch.setattr(triton_needs, "INTERPRETED", False)
    assert refusal("triton", X) == start + "it needs a GPU, and this tensor is on cpu"
    monkeypatch.setattr(triton_needs, "INTERPRETED", True)
    assert refusal("triton", X.double()) == start + "it has no float64 kernel"
    monkeypatch.setattr(triton_needs, "INSTALLED", False)
    assert refusal("triton", X) == start + "Triton is not installed"


def test_an_unknown_implementation_is_named():
    with pytest.raises(ValueError, match="op: impl='cuda' is unknown; auto, reference, native"):
        choose("op", "cuda", X, **DTYPES)


def test_kernels_work_where_there_is_no_triton(tmp_path):
    """As on macOS and Windows."""
    code = """if True:
        import sys
        sys.modules["triton"] = None
        import torch
        from fastinfogan.kernels.bn_act import bn_act
        ones = torch.ones(3)
        bn_act(torch.randn(4, 3), ones, ones, None, None, 0.1)
        try:
            bn_act(torch.randn(4, 3), ones, ones, None, None, 0.1, impl="triton")
        except RuntimeError as error:
            print(error)
    """
    # Not in the checkout, whose ./fastinfogan would hide the installed one.
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "bn_act: impl='triton' can't run: Triton is not installed\n", done.stderr


def test_recorded_launches_hold_no_tensor():
    """Autograd would copy a gradient that is held, and a count of launches would see the copy."""
    x, count = torch.empty(4, device="meta"), sys.getrefcount
    held = count(x)
    triton_module.launch("kernel", (2, 3), x, (x, x), 1.0, BLOCK=4)
    launch = triton_module.recorded.pop()
    assert count(x) == held
    assert (launch.kernel, launch.grid, launch.args[2]) == ("kernel", (2, 3), 1.0)
    assert launch.args[0].shape == launch.args[1][1].shape == (4,)


def test_a_launch_has_other_constants_on_hopper():
    on_hopper = {"num_warps": 4}
    x = torch.empty(4, device="meta")
    triton_module.launch("kernel", (1,), x, on_hopper=on_hopper, num_warps=8, BLOCK=4)
    launch = triton_module.recorded.pop()
    assert launch.on(90).constants["num_warps"] == 4
    for other in (75, 80, 89, 100, 120):
        assert launch.on(other).constants["num_warps"] == 8


@pytest.mark.skipif(not triton_needs.INSTALLED, reason="Triton is not installed")
def test_without_a_gpu_kernels_are_interpreted_in_these_tests():
    """Else what needs it is skipped, and nothing fails: conftest.py asks before Triton is there."""
    assert triton_needs.INTERPRETED or torch.cuda.is_available()


def test_launches_are_early_from_hopper_on_and_only_if_asked_for(monkeypatch):
    """What they take of such a GPU is gated as if they were."""
    triton_module.launch("kernel", (1,), torch.empty(4, device="meta"), BLOCK=4)
    launch = triton_module.recorded.pop()
    late, early = {"EARLY": False}, {"EARLY": True, "launch_pdl": True}
    for capability, wanted in ((75, late), (89, late), (90, early), (100, early), (120, early)):
        assert launch.on(capability).constants == launch.constants | wanted

    asked = []

    class Kernel:
        def __getitem__(self, grid):
            return lambda *args, **constants: asked.append(constants)

    for generation in (0, 8, 9, 12):
        monkeypatch.setattr(triton_module, "_generation", lambda device, found=generation: found)
        for wanted in (False, True):
            monkeypatch.setattr(triton_module, "early", wanted)
            triton_module.launch(Kernel(), (1,), torch.empty(4), BLOCK=4)
            assert asked[-1]["EARLY"] == asked[-1].get("launch_pdl", False)
            assert asked[-1]["EARLY"] == (wanted and generation >= 9)


def test_only_tiles_without_sums_of_which_an_sm_has_two_do():
    large = tiles.Tile(128, 128, 64, 8, 3)
    for tile, summed, other in (
        (large, False, {"num_warps": 4}), (large, True, None),
        (large._replace(stages=4), False, None), (large._replace(columns=256), False, None),
    ):  # fmt: skip
        assert tiles.compiled(tile, summed)["on_hopper"] == other


def test_auto_takes_the_reference_on_other_devices():
    elsewhere = SimpleNamespace(
        device=torch.device("mps"), dtype=X.dtype, is_cuda=False, is_meta=False
    )
    assert choose("op", "auto", elsewhere, **DTYPES) == "reference"
