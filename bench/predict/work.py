"""One launch: what it asks of the GPU, how long that takes, and how short it could be."""

from __future__ import annotations

from dataclasses import dataclass

from bench.predict.h100 import BYTES_PER_S, LEAST_S, NODE_S


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
        chain_s: seconds in which loads wait for each other.
        last_s: seconds of the program that finishes last, alone, after all others.
        ours: a Triton kernel of this project.
    """

    kernel: str
    shape: str
    moved: int
    flop: int = 0
    arithmetic_s: float = 0.0
    issue_s: float = 0.0
    chain_s: float = 0.0
    last_s: float = 0.0
    ours: bool = False

    @property
    def seconds(self) -> float:
        """What the launch is predicted to add to an iteration."""
        work = max(self.arithmetic_s, self.issue_s, self.chain_s, self.moved / BYTES_PER_S)
        return self.ideal_s + max(0.0, work + self.last_s - self._least_s)

    @property
    def ideal_s(self) -> float:
        """What it would add if it did no more than move its bytes."""
        return NODE_S + self._least_s

    @property
    def _least_s(self) -> float:
        return max(LEAST_S, self.moved / BYTES_PER_S)

    @property
    def bound(self) -> str:
        """What takes longest."""
        terms = {
            "a launch's least": LEAST_S,
            "bytes": self.moved / BYTES_PER_S,
            "arithmetic": self.arithmetic_s,
            "instructions": self.issue_s,
            "latency": self.chain_s + self.last_s,
        }
        return max(terms, key=terms.__getitem__)

    @property
    def ratio(self) -> float:
        """How many times its ideal it takes."""
        return self.seconds / self.ideal_s
