"""The compiled module: what it says of the CPU, and that it shares torch's thread pool."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fastinfogan.kernels import conv, native_module

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc and libgomp")


@pytest.fixture
def fresh_load():
    """``load`` without what it remembers, before and after."""
    native_module.find.cache_clear()
    yield native_module.find
    native_module.find.cache_clear()


@pytest.fixture
def run_fresh(tmp_path):
    """Gives the JSON that some code prints in an interpreter that has imported nothing else."""

    def run(code: str) -> object:
        command = [sys.executable, "-c", code]
        # Not in the checkout, whose ./fastinfogan would hide the installed one.
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    return run


def test_module_is_built():
    module, reason = native_module.find()
    assert reason == ""
    assert module.__name__ == "fastinfogan.kernels._native"


@linux_only
@pytest.mark.skipif(platform.machine() != "x86_64", reason="compares x86 flags")
def test_features_are_those_of_the_kernel():
    module, _ = native_module.find()
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next(line for line in lines if line.startswith("flags")).split()
    vendor = next(line for line in lines if line.startswith("vendor_id")).split(":")[1].strip()
    assert module.cpu_vendor() == vendor
    features = module.cpu_features()
    for name in ("avx2", "fma", "avx512f", "avx512_bf16"):
        assert features[name] == (name in flags), name
    for name in ("amx_tile", "amx_bf16"):  # the process may be denied what the CPU has
        assert features[name] <= (name in flags), name
    assert features["neon"] is False
    # Of both a compiler may know less; what there is a kernel of is what conv takes.
    assert module.HALF_PRODUCTS <= features["avx512_bf16"]
    assert (torch.bfloat16 in conv.native.DTYPES) == module.HALF_PRODUCTS


@pytest.mark.skipif(platform.machine() not in ("aarch64", "arm64"), reason="needs an Arm CPU")
def test_arm_has_neon_and_nothing_of_x86():
    module, _ = native_module.find()
    assert [name for name, has in module.cpu_features().items() if has] == ["neon"]


@linux_only
def test_threads_are_those_torch_was_told(run_fresh):
    code = """if True:
        import json, torch
        from fastinfogan.kernels import native_module
        module, _ = native_module.find()
        seen = [module.threads()]
        for threads in (1, 3, 2):
            torch.set_num_threads(threads)
            seen.append(module.threads())
        print(json.dumps([torch.get_num_threads(), seen]))
    """
    last, (first, *seen) = run_fresh(code)
    assert seen == [1, 3, 2] and last == 2
    assert first >= 1


@linux_only
def test_one_openmp_library_is_loaded(run_fresh):
    code = """if True:
        import json
        from fastinfogan.kernels import native_module
        assert native_module.find()[0].threads() >= 1
        paths = [line.split()[-1] for line in open("/proc/self/maps")]
        print(json.dumps(sorted({path for path in paths if "omp" in path.rsplit("/")[-1]})))
    """
    assert len(run_fresh(code)) == 1


def test_reason_where_the_package_was_not_built(monkeypatch, fresh_load):
    monkeypatch.setitem(sys.modules, native_module.MODULE, None)
    assert fresh_load() == (None, "not built; pip install . builds it")


def test_reason_where_torch_does_not_import(monkeypatch, fresh_load):
    monkeypatch.setitem(sys.modules, "torch", None)
    module, reason = fresh_load()
    assert module is None
    assert reason.startswith("torch does not import: ")


def test_reason_where_the_library_does_not_load(monkeypatch, fresh_load):
    def refuse(name: str) -> object:
        if name == native_module.MODULE:
            raise ImportError("_native.so: undefined symbol:\n omp_get_max_threads")
        return object()

    monkeypatch.setattr(native_module.importlib, "import_module", refuse)
    reason = "built, but does not load: _native.so: undefined symbol: omp_get_max_threads"
    assert fresh_load() == (None, reason)


@pytest.mark.parametrize(
    ("kernel", "dtype"),
    [("linear_forward", 1), ("dense_forward", 1), ("adam", 1), ("conv_down", 7), ("warp", -1)],
)
def test_a_number_type_that_a_kernel_lacks_is_refused(kernel, dtype):
    """Not taken for another one; nothing is looked at before."""
    arguments = {
        "linear_forward": (1, 1, 1, *[0] * 4),
        "dense_forward": (1, 16, 1, False, *[0] * 8),
        "adam": (*[0] * 11, *[1.0] * 6),
        "conv_down": (*[1] * 8, *[0] * 5, 0.0),
        "warp": (*[1] * 5, 0, 0, 0, 0.0, 0, 0),
    }[kernel]
    with pytest.raises(ValueError, match=rf"^dtype {dtype}; float32 \(0\)"):
        getattr(native_module.find()[0], kernel)(dtype, *arguments)


def test_shapes_that_are_written_twice_are_the_same():
    module, _ = native_module.find()
    assert (module.TAPS, module.IMAGE_CHANNELS) == (conv.layout.TAPS, conv.layout.IMAGE_CHANNELS)
