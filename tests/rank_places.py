"""What torchrun would set in the environment of each rank, for tests that start their own."""

from __future__ import annotations

import socket


def places(size: int, wait: float = 60) -> list[dict[str, str]]:
    """The variables of ``size`` ranks on this machine, which wait so long for each other (s)."""
    with socket.socket() as probe:  # a port that nobody listens on now
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {
        "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port, "OMP_NUM_THREADS": 1, "FASTINFOGAN_RANKS_WAIT": wait,
    }  # fmt: skip
    return [
        {name: str(value) for name, value in {**common, "RANK": r, "LOCAL_RANK": r}.items()}
        for r in range(size)
    ]
