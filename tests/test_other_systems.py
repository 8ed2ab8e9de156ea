"""Where Linux's own things are missing, as on macOS and Windows: everything still works."""

from __future__ import annotations

import builtins
import ctypes
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from image_files import write

from fastinfogan import device

CPU = torch.device("cpu")
WITHOUT = """
import asyncio, os, signal, sys, warnings  # asyncio asks for sysconf where it isn't Windows'
warnings.simplefilter("ignore")  # filelock mentions it
for module in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[module] = None
del os.sysconf, os.fork, os.killpg, os.sched_getaffinity
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGALRM"):
    delattr(signal, name)
os.O_BINARY, as_text = 1 << 30, set()
def no_folders(path, flags, *args, opened=os.open, **options):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    handle = opened(path, flags & ~os.O_BINARY, *args, **options)
    (as_text.discard if flags & os.O_BINARY else as_text.add)(handle)
    return handle
def windows_lines(handle, size, read=os.read):
    data = read(handle, size)
    return data.replace(bytes((13, 10)), bytes((10,))) if handle in as_text else data
os.open, os.read = no_folders, windows_lines
from fastinfogan.cli import main
"""


def run_without(code, folder):
    """Run Python code after what other systems lack is gone; ``main`` is the command line."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + code], cwd=folder, text=True, capture_output=True,
        env={**os.environ, "FASTINFOGAN_CACHE": str(folder / "cache")}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr


def test_ingesting_training_resuming_and_looking_at_a_run(tmp_path):
    write(tmp_path / "images", 20, "PNG")  # which begins with what Windows takes for a line's end
    run_without(
        "assert main(['ingest', '--data-dir', 'images']) == 0\n"
        "few = ['--preset', 'mnist-mlp', '--batch-size', '16', '--iterations', '2']\n"
        "assert main(['train', '--out', 'run', *few]) == 0\n"
        "assert main(['train', '--resume=run', '--iterations=4', '--feed=streamed']) == 0\n"
        "assert main(['evaluate', 'run', '--samples', '10']) == 0\n"
        "assert main(['sample', 'run', '--output', 'x.npz']) == 0\n"
        "assert main(['export', 'run', '--output', 'x.safetensors']) == 0\n",
        tmp_path,
    )
    assert (tmp_path / "run" / "summary.json").exists() and (tmp_path / "x.npz").exists()


def test_memory_is_known_without_proc(monkeypatch):
    """macOS has sysconf, Windows neither."""

    def no_proc(path, *args, opened=builtins.open, **options):
        if str(path).startswith("/proc"):
            raise FileNotFoundError(path)
        return opened(path, *args, **options)

    with_proc = device.total_memory(CPU)
    monkeypatch.setattr("builtins.open", no_proc)
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert device.total_memory(CPU) == device.free_memory(CPU) == pages
    assert pages == pytest.approx(with_proc, rel=0.1)
    monkeypatch.delattr("os.sysconf")
    monkeypatch.setattr("sys.platform", "win32")

    def installed(pointer):
        pointer._obj.value = 8 << 20  # kilobytes
        return True

    kernel32 = SimpleNamespace(GetPhysicallyInstalledSystemMemory=installed)
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel32), raising=False)
    assert device.total_memory(CPU) == 8 << 30
    kernel32.GetPhysicallyInstalledSystemMemory = lambda pointer: False
    assert device.free_memory(CPU) == 4 << 30


# -- Terminals -----------------------------------------------------------------------------------


def test_the_whole_help_fits_any_terminal(tmp_path):
    """tyro never ends where there are only a few columns."""
    for columns in ("1", "39"):
        done = subprocess.run(
            [sys.executable, "-m", "fastinfogan", "train", "--help"], cwd=tmp_path, timeout=60,
            env={**os.environ, "COLUMNS": columns}, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0 and b"--iterations" in done.stdout


ENCODINGS = [
    "ascii:strict",
    *(pytest.param(f"{name}:strict", marks=pytest.mark.slow) for name in ("utf-8", "latin-1")),
]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_terminal_that_shows_few_characters_is_no_error(tmp_path, encoding):
    """Nor are names of any bytes, typed or found."""
    name = os.fsdecode(b"b\xff\xe9ild\xc3\xa4")
    (tmp_path / name).mkdir()
    write(tmp_path / name / "\u540d", 20)
    (tmp_path / name / f"{name}.png").write_bytes(b"no image")
    code = (
        "import sys\n"
        "from fastinfogan.cli import main\n"
        "name = sys.argv[1]\n"
        "assert main(['ingest', '--data-dir', name, '--allow-bad']) == 0\n"
        "assert main(['train', '--dataset', name]) == 2\n"
        "assert main(['datasets', '--data-dir', name]) == 0\n"
        "assert main(['sample', name]) == 2\n"
        "assert main(['evaluate', '~' + name]) == 2\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, name], cwd=tmp_path, capture_output=True, check=False,
        env={
            **os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C", "PYTHONUTF8": "0",
            "PYTHONCOERCECLOCALE": "0", "FASTINFOGAN_CACHE": str(tmp_path / "cache"),
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert b"Traceback" not in done.stderr and rb"\udcff" in done.stderr
