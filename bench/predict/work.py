"""One launch: what it asks of the GPU, how long that takes, and how short it could be."""

from __future__ import annotations

from dataclasses import dataclass

from bench.predict.h100 import BYTES_PER_S, NODE_S, START_S


@dataclass(frozen=True)
class Work:
    """One launch.

    Attributes:
        kernel: its name: of ours, or what the library's is for.
        shape: its grid or sizes, for people.
        moved: bytes read and written, each once.
        flop: floating-point operations of products and convolutions.
        arithmetic_s: seconds of those, at the assumed share of the peak.
        issue_s: seconds in which the SMs issue its instructions.
        chain_s: seconds in which its loads and instructions wait for each other.
        last_s: seconds that come after or before all this: of the ticket that every program draws,
            or of a product whose first tiles are on their way.
        least_arithmetic_s: seconds of the arithmetic at the share that the largest products reach.
        ours: a Triton kernel of this project.
        node_s: seconds from the node before it, and to the one after it where that takes longer.
        bytes_per_s: of the GPU's memory.
    """

    kernel: str
    shape: str
    moved: int
    flop: int = 0
    arithmetic_s: float = 0.0
    issue_s: float = 0.0
    chain_s: float = 0.0
    last_s: float = 0.0
    least_arithmetic_s: float = 0.0
    ours: bool = False
    node_s: float = NODE_S
    bytes_per_s: float = BYTES_PER_S

    @property
    def seconds(self) -> float:
        """What the launch is predicted to add to an iteration."""
        return self.node_s + self.kernel_s

    @property
    def kernel_s(self) -> float:
        """Its own part of that, from its start to its end."""
        work = max(self.arithmetic_s, self.issue_s, self.chain_s, self._bytes_s)
        return START_S + work + self.last_s

    @property
    def ideal_s(self) -> float:
        """What it would add if it did no more than move its bytes, or than multiply."""
        return self.node_s + START_S + max(self._bytes_s, self.least_arithmetic_s)

    @property
    def _bytes_s(self) -> float:
        return self.moved / self.bytes_per_s

    @property
    def bound(self) -> str:
        """What takes longest."""
        terms = {
            "a launch's least": START_S,
            "bytes": self._bytes_s,
            "arithmetic": self.arithmetic_s,
            "instructions": self.issue_s,
            "latency": self.chain_s + self.last_s,
        }
        return max(terms, key=terms.__getitem__)

    @property
    def ratio(self) -> float:
        """How many times its ideal it takes."""
        return self.seconds / self.ideal_s
