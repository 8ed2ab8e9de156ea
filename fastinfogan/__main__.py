"""``python -m fastinfogan``: the command line."""

import sys

from fastinfogan.cli import main

sys.exit(main())
