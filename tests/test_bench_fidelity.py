"""bench.fidelity: its distance and its slants on what has a known answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from studies import SMALL, in_this_process

from bench import fidelity
from bench.fidelity import frechet, slants
from fastinfogan.cli import main as fastinfogan


def test_the_distance_of_gaussians_is_that_of_the_formula():
    """Diagonal covariances: |m_a - m_b|^2 + sum (s_a - s_b)^2 over standard deviations."""
    random = torch.Generator().manual_seed(0)
    white = torch.randn(200_000, 5, generator=random, dtype=torch.float64)
    white = white - white.mean(0)
    white = white @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(white.T))).T  # exactly white
    a, b = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0]), torch.tensor([1.0, 1.0, 1.0, 2.0, 0.0])
    shift = torch.tensor([0.0, 1.0, 0.0, -2.0, 0.5])
    expected = float((shift**2).sum() + ((a - b) ** 2).sum())
    assert frechet(white * a, white * b + shift) == pytest.approx(expected, rel=1e-9)
    assert frechet(white * a, white * a) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("shear", [-0.6, 0.0, 0.3])
def test_a_sheared_bar_has_its_shear_as_slant(shear):
    image = torch.zeros(1, 1, 64, 64)
    for row in range(10, 54):
        centre = 32 - shear * (row - 31.5)  # a positive shear leans right: its top is further right
        left = int(np.floor(centre))
        image[0, 0, row, left] = 1 - (centre - left)
        image[0, 0, row, left + 1] = centre - left
    assert slants(image)[0] == pytest.approx(shear, abs=1e-6)


def test_an_empty_image_has_no_slant():
    assert slants(torch.zeros(2, 1, 8, 8)).tolist() == [0.0, 0.0]


def test_two_studies_side_by_side(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fidelity, "RESULTS", tmp_path)
    monkeypatch.setattr(fidelity, "STEPS", 10)
    with in_this_process():
        for name in ("a", "b"):
            out = str(tmp_path / name)
            assert fastinfogan(["study", *SMALL, "--seeds", "1", "--out", out]) == 0
        capsys.readouterr()
        assert fidelity.main([str(tmp_path / "a"), str(tmp_path / "b"), "--count", "64"]) == 0
    out = capsys.readouterr().out
    assert "real " in out and "a, seed 0" in out and "b, mean of 1" in out
    assert (tmp_path / "b" / "slants.png").exists()
    assert len(list(tmp_path.glob("fidelity-b-*"))) == 1


def test_no_study_is_one_line(tmp_path, capsys):
    assert fidelity.main([str(tmp_path)]) == 2
    assert "no study" in capsys.readouterr().err
