"""Options of the benchmarks."""

from __future__ import annotations

import pytest


def pytest_addoption(parser):
    parser.addoption("--tiny", action="store_true", help="a sixteenth of batches and wide layers")
    parser.addoption("--large", action="store_true", help="also with 200,000 images")


@pytest.fixture
def batch(request):
    """Images in a batch."""
    return 8 if request.config.getoption("--tiny") else 128
