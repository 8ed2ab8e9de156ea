"""Benchmarks. ``python -m bench.training``, from the repository's root, needs its paths in order.

The checkout's ./fastinfogan has no kernels in it, so the installed package goes first; tests/ holds
the tolerances and the narrow networks.
"""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_LAST = [str(_ROOT), str(_ROOT / "tests")]

_first = [entry for entry in sys.path if str(Path(entry or ".").resolve()) not in _LAST]
sys.path[:] = _first + _LAST
