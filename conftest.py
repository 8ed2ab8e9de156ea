"""Keeps the checkout's ./fastinfogan, which has no kernels in it, from hiding the installed one.

``python -m pytest`` puts the current folder on ``sys.path``; ``pytest`` does not.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent

sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
