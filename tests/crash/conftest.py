"""The process that runs commands which crash."""

from __future__ import annotations

import pytest
from crashes import crash_server


@pytest.fixture(scope="session")
def crashes(tmp_path_factory):
    with crash_server(tmp_path_factory.mktemp("crashes")) as server:
        yield server


@pytest.fixture
def few(request) -> int:
    """How many points of each kind are tried: some by default, all where the test is slow."""
    return 10**6 if request.node.get_closest_marker("slow") else 6
