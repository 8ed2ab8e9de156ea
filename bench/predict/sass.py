"""A compiled kernel's machine code (SASS): how many instructions a warp runs, loop by loop.

A loop is a branch back. What lies in no loop counts once, whether it is branched around or not (an
upper bound), unless it is branched around together with a loop that doesn't run. An exit under a
condition branches around all that follows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

_LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(.*?);")
_TARGET = re.compile(r"\bBRA\b.*\b0x([0-9a-f]+)")
_EXIT = re.compile(r"@!?U?P\d+ EXIT\b")
_LOAD = re.compile(r"\bLDG?\.")


@dataclass(frozen=True)
class Code:
    """The machine code of a kernel.

    Attributes:
        instructions: address and text of each.
        loops: addresses of first and last instruction of each, in the order in which they begin; an
            outer loop comes before those in it.
        skips: addresses of each branch forward and of where it leads.
    """

    instructions: tuple[tuple[int, str], ...]
    loops: tuple[tuple[int, int], ...]
    skips: tuple[tuple[int, int], ...] = ()

    def executed(self, trips: Sequence[float]) -> tuple[float, float]:
        """What one warp runs.

        Args:
            trips: of each loop.

        Returns:
            Instructions, and how many times it waits for memory: once for all loads outside of
            loops, and once a trip of a loop that loads.
        """
        if len(trips) != len(self.loops):
            raise ValueError(f"{len(trips)} numbers of trips for {len(self.loops)} loops")
        skipped = [
            self._skipped(loop) for loop, times in zip(self.loops, trips, strict=True) if not times
        ]
        count, waiting = 0.0, {(): 1.0}
        for address, text in self.instructions:
            inside = tuple(i for i, (a, b) in enumerate(self.loops) if a <= address <= b)
            times = math.prod(trips[i] for i in inside)
            if any(first <= address <= last for first, last in skipped):
                times = 0.0
            count += times
            if inside and _LOAD.search(text):
                waiting[inside] = times
        return count, sum(waiting.values())

    def _skipped(self, loop: tuple[int, int]) -> tuple[int, int]:
        """A loop with what the longest branch around it leaves out."""
        around = [(at + 1, to - 1) for at, to in self.skips if at < loop[0] and loop[1] < to]
        return max(around, key=lambda span: span[1] - span[0], default=loop)


def parse(text: str) -> Code:
    """The code that ``cuobjdump -sass`` prints; no-operations, which fill up the end, left out."""
    lines = [(int(at, 16), line) for at, line in _LINE.findall(text)]
    lines = [(at, line) for at, line in lines if not line.startswith("NOP")]
    branches = [(at, int(to[1], 16)) for at, line in lines if (to := _TARGET.search(line))]
    # (A branch to itself stands behind the end.)
    loops = sorted(((to, at) for at, to in branches if to < at), key=lambda p: (p[0], -p[1]))
    end = max((at + 1 for at, _ in lines), default=0)
    exits = [(at, end) for at, line in lines if _EXIT.match(line)]
    skips = [*((at, to) for at, to in branches if at < to), *exits]
    return Code(tuple(lines), tuple(loops), tuple(skips))
