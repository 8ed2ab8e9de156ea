"""Makes ``bench`` importable, and keeps ./fastinfogan, which has no kernels, from being imported.

``python -m pytest`` puts the current folder first on ``sys.path``, where it would hide the
installed package; ``pytest`` leaves it out. Here it is first for a moment, for whatever else is
called bench must not be found, and then last.
"""

import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent

sys.path.insert(0, str(ROOT))
importlib.import_module("bench")
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT] + [str(ROOT)]
