"""Processors that this process may use: affinity and a container's quota."""

from __future__ import annotations

import os

import pytest

from fastinfogan import cores


@pytest.mark.parametrize(
    ("affinity", "quota", "expected"),
    [
        ({0, 1, 2, 3}, None, 4),
        ({5}, None, 1),
        (set(range(64)), "200000 100000", 2),
        (set(range(64)), "150000 100000", 2),  # one and a half
        ({3}, "200000 100000", 1),
        (set(range(8)), "max 100000", 8),
        (set(range(8)), "50000 100000", 1),
        (set(range(8)), "", 8),
    ],
)
def test_usable_cores(monkeypatch, tmp_path, affinity, quota, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: affinity, raising=False)
    monkeypatch.setattr(cores, "QUOTA", tmp_path / "cpu.max")
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota)
    assert cores.usable_cores() == expected


def test_a_system_without_affinity(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setattr(cores, "QUOTA", tmp_path / "cpu.max")
    assert cores.usable_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores.usable_cores() == 1
