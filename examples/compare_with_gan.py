"""Draw an InfoGAN run's L_I beside that of its regular-GAN baseline (the paper's Fig. 1).

fastinfogan train --preset mnist --out runs/infogan
fastinfogan train --preset mnist --objective gan --out runs/gan
python examples/compare_with_gan.py runs/infogan runs/gan curves.png
"""

import argparse
from pathlib import Path

from fastinfogan.results.curves import plot_curves
from fastinfogan.results.run_config import read_config
from fastinfogan.training.metrics import read_metrics

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("infogan", type=Path, help="run directory")
parser.add_argument("gan", type=Path, help="run directory of the baseline")
parser.add_argument("picture", type=Path, help="PNG to write")
args = parser.parse_args()

spec, rows = None, []
for folder in (args.gan, args.infogan):
    spec = read_config(folder).spec  # raises, in one line, where there is no run
    rows.append(read_metrics(folder / "metrics.jsonl"))
plot_curves(rows[1], spec, args.picture, baseline=rows[0])
print(args.picture)
