"""The process that runs commands which crash."""

from __future__ import annotations

import pytest
from crashes import crash_server


@pytest.fixture(scope="session")
def crashes(tmp_path_factory):
    with crash_server(tmp_path_factory.mktemp("crashes")) as server:
        yield server
