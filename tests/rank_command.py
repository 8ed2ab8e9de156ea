"""``python -m fastinfogan`` as tests need it, for torchrun to start.

There are narrow presets and few digits, and runs end with a bare summary.
"""

from __future__ import annotations

import sys

import pytest
from narrow import narrow_presets
from training_runs import few_digits, finish_briefly

from fastinfogan.cli import main

if __name__ == "__main__":
    with narrow_presets(), few_digits(), pytest.MonkeyPatch.context() as patch:
        finish_briefly(patch)
        sys.exit(main())
