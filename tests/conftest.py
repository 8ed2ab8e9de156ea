"""Fixtures that several test files share."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch

if not torch.cuda.is_available():
    # Triton's kernels run in its interpreter, which must be chosen before anything imports Triton.
    os.environ["TRITON_INTERPRET"] = "1"

from fastinfogan.config import PRESETS, Architecture


def narrow(architecture: Architecture) -> Architecture:
    """Every row of a table at a sixteenth of its width: the same code, in milliseconds."""

    def thin(row):
        if row.features < 64 or (row.shape and row.shape[0] <= 3):  # next to the image
            return row
        shape = row.shape and (row.shape[0] // 16, *row.shape[1:])
        return replace(row, features=row.features // 16, shape=shape)

    parts = ("generator", "trunk", "q_hidden")
    return replace(
        architecture, **{part: tuple(map(thin, getattr(architecture, part))) for part in parts}
    )


def add_narrow_presets(patch: pytest.MonkeyPatch) -> None:
    """Adds narrow-NAME to the presets for every NAME."""
    for name, preset in list(PRESETS.items()):
        thin = replace(preset, architecture=narrow(preset.architecture))
        patch.setitem(PRESETS, f"narrow-{name}", thin)


@pytest.fixture
def narrow_presets(monkeypatch):
    add_narrow_presets(monkeypatch)
