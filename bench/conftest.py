"""Options of the benchmarks."""

from __future__ import annotations

import pytest


def pytest_addoption(parser):
    parser.addoption("--tiny", action="store_true", help="small batches and layers: a smoke test")
    parser.addoption("--large", action="store_true", help="also with 200,000 images")


@pytest.fixture
def batch(request):
    """Images in a batch."""
    return 8 if request.config.getoption("--tiny") else 128
