"""Fixtures that several test files share."""

from __future__ import annotations

import os

import pytest
import torch
from narrow import narrow_presets

if not torch.cuda.is_available():
    # Triton's kernels run in its interpreter, which must be chosen before anything imports Triton.
    os.environ["TRITON_INTERPRET"] = "1"

# The tests' networks are too small to share out; handing them round takes longer than the work.
torch.set_num_threads(1)


@pytest.fixture(name="narrow_presets")
def _narrow_presets():
    """PRESETS also has narrow-NAME for every NAME."""
    with narrow_presets():
        yield


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory):
    """No test reads or writes the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTINFOGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
