"""Keeps the checkout's ./fastinfogan, which has no kernels in it, from hiding the installed one.

``python -m pytest`` puts the current folder first on ``sys.path``; ``pytest`` leaves it out. Here
it is last, so that ``bench`` can be imported.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent

sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT] + [str(ROOT)]
