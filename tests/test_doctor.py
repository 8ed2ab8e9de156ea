"""The doctor: it names every part with what is true of it here, and survives odd installations."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys

import pytest
import torch

from fastinfogan import data, doctor
from fastinfogan.doctor import Check
from fastinfogan.kernels import native_module


def found() -> dict[str, Check]:
    return {check.name: check for check in doctor.report()}


@pytest.fixture
def fake_package(tmp_path, monkeypatch):
    """Install a distribution whose import runs ``code``, ahead of a real one."""

    def install(distribution: str, version: str, module: str, code: str) -> None:
        folder = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Name: {distribution}\nVersion: {version}\n")
        package = tmp_path.joinpath(*module.split("."))
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(code)
        monkeypatch.delitem(sys.modules, module, raising=False)
        if "." in module:  # the real parent would look for the real module
            (package.parent / "__init__.py").touch()
            monkeypatch.delitem(sys.modules, module.split(".")[0], raising=False)
        monkeypatch.syspath_prepend(tmp_path)

    return install


def test_report_covers_every_part_in_single_lines():
    checks = doctor.report()
    assert [check.name for check in checks] == [
        "python", "torch", "device", "--amp", "triton", "--compile", "dali", "native module",
        "tensorboard",
        "onnx",
        "onnxruntime",
        *(f"dataset {name}" for name in data.DATASETS),
    ]  # fmt: skip
    for check in checks:
        assert check.status in ("ok", "missing", "off")
        assert check.detail and "\n" not in check.detail + check.consequence


def test_details_are_those_of_this_installation():
    checks = found()
    assert checks["python"].detail.startswith(".".join(map(str, sys.version_info[:3])))
    assert checks["torch"].status == "ok"
    assert torch.__version__ in checks["torch"].detail
    module, _ = native_module.find()
    for name, has in module.cpu_features().items():
        assert has == (name in checks["native module"].detail.replace(",", "").split())


@pytest.mark.skipif(torch.cuda.is_available(), reason="what is said without a GPU")
def test_without_a_gpu_training_runs_on_the_cpu():
    checks = found()
    assert checks["device"].status == "off"
    assert checks["device"].consequence == "training runs on the CPU"
    assert checks["triton"].status in ("off", "missing")
    threads = torch.get_num_threads()
    try:
        for number, words in ((1, "1 thread"), (2, "2 threads")):
            torch.set_num_threads(number)
            line = doctor.what_will_run(list(checks.values()))
            assert line == f"training on the CPU in float32 with {words}"
    finally:
        torch.set_num_threads(threads)


@pytest.mark.skipif(torch.cuda.is_available(), reason="plays a GPU that does not answer")
def test_gpu_that_does_not_work_is_named_with_the_way_out(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Old GPU")
    checks = found()
    assert checks["device"].status == "off"
    assert checks["device"].detail.startswith("Old GPU does not work: ")
    assert checks["device"].consequence == "training needs --device cpu"
    assert checks["triton"].status in ("off", "missing")
    line = doctor.what_will_run(list(checks.values()))
    assert line.startswith("with --device cpu, training on the CPU in float32 with ")


@pytest.mark.skipif(torch.cuda.is_available(), reason="what is said without a GPU")
def test_compiling_without_a_compiler_is_missing(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    detail = "there is no C++ compiler (no-such-compiler; CXX names another)"
    assert found()["--compile"] == Check("--compile", "missing", detail, "refused")
    monkeypatch.setenv("CXX", sys.executable)  # a command that is there
    assert found()["--compile"] == Check("--compile", "ok", "works on cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_with_a_gpu_it_is_named():
    checks = found()
    name = torch.cuda.get_device_name(0)
    assert checks["device"].status == "ok"
    assert f"cuda:0 {name}" in checks["device"].detail
    assert doctor.what_will_run(list(checks.values())).startswith(f"training on cuda:0 ({name})")


def _page(monkeypatch, columns):
    """Standard output is a pipe, or as wide as COLUMNS says."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)

    def no_terminal(*args):
        raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")

    monkeypatch.setattr(os, "get_terminal_size", no_terminal)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", str(columns))


@pytest.mark.parametrize("columns", [None, 60, 80, 200])
def test_report_is_plain_text_no_wider_than_the_page_with_every_word(capsys, monkeypatch, columns):
    _page(monkeypatch, columns)
    assert doctor.main() == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert "\x1b" not in "".join(lines)
    assert max(map(len, lines)) <= (columns or 100)
    assert not [line for line in lines if line != line.rstrip()]
    entries, prefix = [], ""
    for line in lines:  # as a program would read it
        if line == "datasets:":
            prefix = "dataset "
        elif not line.startswith(" "):
            name, status, rest = re.fullmatch(r"(.+?) +(ok|missing|off)( .*)?", line).groups()
            entries.append([prefix + name, status, (rest or "").split()])
        else:
            entries[-1][2] += line.split()
    checks = doctor.report()
    assert entries == [
        [
            c.name,
            c.status,
            [*c.detail.split(), *(["->", *c.consequence.split()] * bool(c.consequence))],
        ]
        for c in checks
    ]
    assert last == f"What will run: {doctor.what_will_run(checks)}"
    texts_below = [line for line in lines if re.match(" {4}[^ ]", line)]
    assert bool(texts_below) == (columns == 60)


def test_a_wide_terminal_is_made_use_of(capsys, monkeypatch):
    lengths = {}
    for columns in (60, 80, 200):
        _page(monkeypatch, columns)
        doctor.main()
        lengths[columns] = len(capsys.readouterr().out.splitlines())
    assert lengths[60] > lengths[80] > lengths[200]


def test_on_a_terminal_the_status_has_a_colour_and_the_words_stay(capsys, monkeypatch):
    _page(monkeypatch, 80)
    doctor.main()
    plain = capsys.readouterr().out
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    doctor.main()
    shown = capsys.readouterr().out
    assert "\x1b[32mok\x1b[0m" in shown
    assert re.sub(r"\x1b\[\d+m", "", shown) == plain


def test_broken_dali_is_reported_as_broken(fake_package):
    code = "raise OSError('libcuda.so.1: cannot open\\n shared object file')"
    fake_package("nvidia-dali-cuda130", "2.4.0", "nvidia.dali", code)
    check = found()["dali"]
    assert check.status == "off"
    reason = "OSError: libcuda.so.1: cannot open shared object file"
    assert check.detail == f"nvidia-dali-cuda130 2.4.0 does not import: {reason}"


@pytest.mark.skipif(sys.platform != "linux", reason="DALI exists for Linux only")
@pytest.mark.parametrize(
    ("cuda", "extra"), [(None, "dali"), ("12.8", "dali-cuda12"), ("13.0", "dali")]
)
def test_absent_dali_names_the_extra_for_this_cuda(monkeypatch, cuda, extra):
    monkeypatch.setattr(doctor, "_version", lambda package: None)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    check = found()["dali"]
    assert check.status == "missing"
    assert check.detail == f"not installed; the extra {extra} has it"


def test_absent_optional_parts_are_no_error(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda package: None)
    checks = found()
    assert [checks[name].status for name in ("triton", "tensorboard")] == ["missing"] * 2
    assert doctor.main() == 0


def test_unbuilt_native_module_is_missing_with_the_reason(monkeypatch):
    monkeypatch.setattr(native_module, "find", lambda: (None, "not built"))
    assert found()["native module"] == Check(
        "native module", "missing", "not built", "the CPU kernels run as plain PyTorch"
    )


def test_a_dataset_that_raises_costs_only_its_own_line(monkeypatch):
    first, *others = data.DATASETS

    def status(name: str) -> tuple[bool, str]:
        if name == first:
            raise PermissionError(13, "Permission denied", "/cache")
        return True, "here"

    monkeypatch.setattr(data, "dataset_status", status)
    checks = found()
    assert checks[f"dataset {first}"].status == "off"
    assert "Permission denied" in checks[f"dataset {first}"].detail
    assert all(checks[f"dataset {name}"].status == "ok" for name in others)


def test_broken_torch_is_reported_and_fails(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise OSError('libc10.so: not found')")
    code = "import sys; from fastinfogan import doctor; sys.exit(doctor.main())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "200"},
        cwd=tmp_path,  # not the checkout, whose ./fastinfogan would hide the installed one
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("torch") and "libc10.so: not found" in line for line in lines)
    assert lines[-1] == "What will run: nothing: torch is unusable"
