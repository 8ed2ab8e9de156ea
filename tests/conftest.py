"""Fixtures that several test files share."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from pathlib import Path

import pytest
import torch
from narrow import narrow_presets

from fastinfogan.cli import main
from fastinfogan.data.ingest import dali, make

if not torch.cuda.is_available():
    # Triton's kernels run in its interpreter, which must be chosen before anything imports Triton.
    os.environ["TRITON_INTERPRET"] = "1"
    if importlib.util.find_spec("triton") is not None:
        from triton.runtime.interpreter import interpreter_builder

        # By itself it computes each sum, difference and product of integers a second time, in 64
        # bits, to see whether it fits: nearly half its time. All do, tests' tensors being small.
        quick = dataclasses.replace(interpreter_builder.options, sanitize_overflow=False)
        interpreter_builder.options = quick

# The tests' networks are too small to share out; handing them round takes longer than the work.
torch.set_num_threads(1)


@pytest.fixture(name="narrow_presets")
def _narrow_presets():
    """PRESETS also has narrow-NAME for every NAME."""
    with narrow_presets():
        yield


@pytest.fixture
def no_curves(monkeypatch):
    """Runs that end leave an empty curves.png: drawing it takes longer than all else they do."""
    from fastinfogan.results import leaving  # not earlier: it may import Triton

    monkeypatch.setattr(leaving, "plot_curves", lambda metrics, spec, path: path.touch())


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory):
    """No test reads or writes the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTINFOGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """Directory of a small finished run, with checkpoints after iterations 3 and 6; don't write."""
    with narrow_presets():
        folder = tmp_path_factory.mktemp("runs") / "run"
        arguments = [
            "train", "--preset", "narrow-mnist", "--batch-size", "16", "--iterations", "6",
            "--device", "cpu", "--checkpoint-every", "3", "--out", str(folder),
        ]  # fmt: skip
        assert main(arguments) == 0
    return folder


@pytest.fixture(scope="session")
def small_study(tmp_path_factory):
    """Directory of a finished study of two seeds; don't write."""
    from studies import SMALL, in_this_process  # not earlier: it imports Triton

    folder = tmp_path_factory.mktemp("studies") / "a"
    with in_this_process():
        arguments = ["study", *SMALL, "--seeds", "2", "--evaluate-every", "3", "--out", str(folder)]
        assert main(arguments) == 0
    return folder


DECODERS = [
    "pillow",
    pytest.param(
        "dali",
        marks=pytest.mark.skipif(
            not dali.available(), reason="DALI is not installed: pip install 'fastinfogan[dali]'"
        ),
    ),
    pytest.param("dali-gpu", marks=[pytest.mark.gpu]),
]


@pytest.fixture(params=DECODERS)
def decoder(request, monkeypatch) -> str:
    """Every decoder in turn, as the one that ingest picks."""
    if request.param == "dali-gpu" and not (torch.cuda.is_available() and dali.available()):
        pytest.skip("needs a CUDA device and DALI")
    monkeypatch.setattr(make, "pick_decoder", lambda tell: request.param)
    return request.param


@pytest.fixture
def own_cache(tmp_path, monkeypatch) -> Path:
    """An empty cache folder of this test alone; returns where ingest keeps its own."""
    monkeypatch.setenv("FASTINFOGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ingested"
