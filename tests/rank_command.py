"""``python -m fastinfogan`` with narrow presets and few digits, for torchrun to start."""

from __future__ import annotations

import sys

from narrow import narrow_presets
from training_runs import few_digits

from fastinfogan.cli import main

if __name__ == "__main__":
    with narrow_presets(), few_digits():
        sys.exit(main())
