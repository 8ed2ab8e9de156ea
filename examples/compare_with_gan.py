"""Draw an InfoGAN run's L_I beside that of its regular-GAN baseline (the paper's Fig. 1).

fastinfogan train --out runs/infogan
fastinfogan train --objective gan --out runs/gan
python examples/compare_with_gan.py runs/infogan runs/gan curves.png
"""

import sys
from pathlib import Path

from fastinfogan.metrics import read_metrics
from fastinfogan.run import read_config
from fastinfogan.visual import plot_curves

infogan, gan, picture = map(Path, sys.argv[1:4])
rows = [read_metrics(folder / "metrics.jsonl") for folder in (infogan, gan)]
plot_curves(rows[0], read_config(infogan).spec, picture, baseline=rows[1])
