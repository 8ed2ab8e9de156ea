"""What a run does where nobody has said: compiling, and CUDA graphs; a GPU stands in."""

from __future__ import annotations

import sysconfig
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from training_runs import few_digits, small

from fastinfogan import device
from fastinfogan.config import PRESETS, RunConfig, preset_config, resolve
from fastinfogan.errors import UserError
from fastinfogan.kernels import triton_needs
from fastinfogan.kernels.dispatch import TRITON_DTYPES, choose
from fastinfogan.plan import are_small, make_plan
from fastinfogan.training.trainer import Training

CUDA = torch.device("cuda", 0)


@pytest.fixture
def gpu(monkeypatch):
    """A GPU, and a machine with all that Triton needs."""
    monkeypatch.setattr(device, "pick_device", lambda name: CUDA)
    monkeypatch.setattr(device, "describe_device", lambda device: "a GPU")
    monkeypatch.setattr(triton_needs, "MISSING", "")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))


@pytest.fixture
def cpu_with(monkeypatch):
    """cpu_with("AMX"): as if the CPU had that, and nothing else of the kind."""

    def pretend(units):
        names = {"AMX": "_is_amx_tile_supported", "AVX512-BF16": "_is_avx512_bf16_supported"}
        for name, function in names.items():
            monkeypatch.setattr(torch.cpu, function, lambda has=name == units: has)

    return pretend


@pytest.mark.parametrize("units", ["AMX", "AVX512-BF16"])
def test_a_cpu_with_units_for_bfloat16_is_worth_a_word_unless_amp_uses_them(cpu_with, units):
    cpu_with(units)
    assert make_plan(RunConfig(device="cpu")).advice == (
        f"--amp would be faster: this CPU has {units} for bfloat16, idle in float32"
    )
    for given in ({"engine": "reference"}, {"amp": True, "amp_dtype": "bfloat16"}):
        assert make_plan(RunConfig(device="cpu", **given)).advice == ""


def test_small_networks_stay_in_float32_on_a_cpu_and_it_is_said(cpu_with):
    """Unless a type is named; and nobody is told that --amp would be faster."""
    cpu_with("AMX")
    plan = make_plan(RunConfig(device="cpu", amp=True), small=True)
    assert plan.half is None and plan.input_dtype == torch.float32
    assert plan.describe().endswith("float32 (--amp is slower for networks this small)")
    plain = make_plan(RunConfig(device="cpu"), small=True)
    assert plain.advice == "" and plain.describe().endswith("float32")
    named = RunConfig(device="cpu", amp=True, amp_dtype="bfloat16")
    assert make_plan(named, small=True).half == torch.bfloat16


@pytest.mark.usefixtures("gpu")
def test_on_a_gpu_they_do_not():
    assert make_plan(RunConfig(amp=True), small=True).half == torch.bfloat16


def test_small_are_the_networks_of_one_preset():
    assert [name for name in PRESETS if are_small(preset_config(name))] == ["mnist-mlp"]


@pytest.mark.usefixtures("narrow_presets")
def test_training_looks_at_its_networks(cpu_with):
    cpu_with("AMX")
    config = small(None, amp=True)
    with few_digits():
        for preset, stays in (("narrow-mnist-mlp", True), ("narrow-mnist", False)):
            given = replace(config, model=replace(config.model, preset=preset))
            assert Training(resolve(given), resumed=False).plan.small == stays


def test_a_cpu_without_them_is_not(cpu_with):
    cpu_with("neither")
    assert make_plan(RunConfig(device="cpu")).advice == ""


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("capability", "advice"),
    [
        (
            (9, 0),
            "--amp would be faster: this GPU has tensor cores for bfloat16, idle in float32",
        ),
        (
            (7, 5),
            "--amp would be faster: this GPU has tensor cores for float16, idle in float32",
        ),
        ((6, 1), ""),
    ],
)
def test_a_gpu_with_tensor_cores_is_worth_a_word_unless_amp_uses_them(
    monkeypatch, capability, advice
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert make_plan(RunConfig()).advice == advice
    assert make_plan(RunConfig(amp=True)).advice == ""


@pytest.mark.usefixtures("gpu")
def test_a_run_is_compiled_if_it_was_asked_for():
    assert make_plan(RunConfig()).describe() == "a GPU, float32, CUDA graphs"
    plan = make_plan(RunConfig(compile=True))
    assert plan.compile and plan.graphs and not make_plan(RunConfig()).compile
    assert plan.describe() == (
        "a GPU, float32, compiled (the first iteration takes longer), CUDA graphs"
    )


@pytest.mark.usefixtures("gpu")
def test_without_a_compiler_a_run_on_a_gpu_says_what_is_missing_and_goes_on(monkeypatch):
    monkeypatch.setattr(triton_needs, "MISSING", "there is no C compiler")
    plan = make_plan(RunConfig())
    assert not plan.graphs
    assert plan.describe() == (
        "a GPU, float32, plain PyTorch instead of our kernels (there is no C compiler)"
    )
    with pytest.raises(UserError) as caught:
        make_plan(RunConfig(compile=True))
    assert str(caught.value) == "--compile: there is no C compiler; leave it out"
    # Triton's kernels couldn't be called, either.
    on_gpu = SimpleNamespace(device=CUDA, dtype=torch.float32, is_cuda=True, is_meta=False)
    kinds = {"native": (torch.float32,), "triton": TRITON_DTYPES}
    monkeypatch.setattr(triton_needs, "INTERPRETED", False)
    monkeypatch.setattr(triton_needs, "INSTALLED", True)
    assert choose("op", "auto", on_gpu, **kinds) == "reference"
    with pytest.raises(RuntimeError, match="op: impl='triton' can't run: there is no C compiler"):
        choose("op", "triton", on_gpu, **kinds)
    monkeypatch.setattr(triton_needs, "MISSING", "")
    assert choose("op", "auto", on_gpu, **kinds) == "triton"


def test_on_a_cpu_a_compiler_is_missed_only_where_it_is_needed(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert make_plan(RunConfig(device="cpu")).plain == ""
    named = r"--compile: there is no C\+\+ compiler \(no-such-compiler; CXX names another\); "
    with pytest.raises(UserError, match=named):
        make_plan(RunConfig(device="cpu", compile=True))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A folder of commands that is all of PATH, and one of headers; Triton is installed."""
    commands, headers = tmp_path / "bin", tmp_path / "include"
    commands.mkdir()
    headers.mkdir()
    (headers / "Python.h").touch()
    monkeypatch.setenv("PATH", str(commands))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(sysconfig, "get_paths", lambda scheme: {"include": str(headers)})
    monkeypatch.setattr(triton_needs, "INSTALLED", True)
    return SimpleNamespace(commands=commands, headers=headers)


def command(folder, name):
    path = folder / name
    path.touch()
    path.chmod(0o755)
    return path


def test_what_triton_lacks_is_said_one_thing_after_the_other(machine, monkeypatch):
    none = "there is no C compiler (gcc, clang, or what CC names)"
    assert triton_needs.find_missing() == none
    clang = command(machine.commands, "clang")
    assert triton_needs.find_missing() == ""
    clang.unlink()
    other = command(machine.headers, "cc-1")
    monkeypatch.setenv("CC", str(other))
    assert triton_needs.find_missing() == ""
    (machine.headers / "Python.h").unlink()
    assert triton_needs.find_missing() == (
        f"Python's headers are not installed (no Python.h in {machine.headers})"
    )
    other.unlink()
    assert triton_needs.find_missing() == f"CC is {str(other)!r}, which is no command"
    monkeypatch.setattr(triton_needs, "INSTALLED", False)
    assert triton_needs.find_missing() == "Triton is not installed"
