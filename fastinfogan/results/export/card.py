"""The card of a hub's folder: what the generator is, what its codes do, and how to load it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastinfogan.printable import printable
from fastinfogan.results.generator import TrainedGenerator

MARK = b"<!-- as fastinfogan export wrote it: "
_LONGEST = 40  # characters of a label
FRONT = """\
---
library_name: fastinfogan
pipeline_tag: unconditional-image-generation
tags:
- infogan
- gan
- disentanglement
- image-generation
- pytorch_model_hub_mixin
- model_hub_mixin
# license: yours to choose; what the images that it learned from allow goes with it
---
"""
LOAD = """\
## Load it

```sh
pip install torch safetensors huggingface_hub
hf download USER/NAME --local-dir infogan
```

```python
import sys

sys.path.insert(0, "infogan")  # the folder with these files
from modeling_infogan import InfoGANGenerator

generator = InfoGANGenerator.from_pretrained("infogan")
images = generator.sample(16, seed=0{set})  # float32 {shape}, black 0 and white 1
```

`modeling_infogan.py` is a hundred lines of plain PyTorch: read them before you run them. A code
that isn't given is drawn from its prior; `generator.latents` and `generator(latents)` do the two
halves apart. `model.safetensors` is a `generator.safetensors` of fastinfogan, too: `fastinfogan
explore`, `sample` and `traverse` take it.
"""
CITATION = """\
## Cite

```bibtex
@inproceedings{chen2016infogan,
  title     = {{InfoGAN}: Interpretable Representation Learning by Information Maximizing
               Generative Adversarial Nets},
  author    = {Chen, Xi and Duan, Yan and Houthooft, Rein and Schulman, John and Sutskever, Ilya
               and Abbeel, Pieter},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2016},
  url       = {https://arxiv.org/abs/1606.03657}
}
```
"""


def model_card(
    trained: TrainedGenerator,
    described: Mapping[str, Any],
    pictures: Sequence[str],
    summary: Mapping[str, Any] | None,
    iteration: str,
) -> str:
    """The text of README.md, with the metadata that a hub reads at its beginning.

    Args:
        trained: the generator.
        described: what config.json says.
        pictures: paths of the pictures in the folder: of samples, then of each code varied.
        summary: what the run's summary.json says, if there is one.
        iteration: training iterations done.
    """
    dataset, codes = trained.config["data"]["dataset"], described["latent_spec"]["codes"]
    learned_from = "a folder of images" if dataset == "folder" else f"`{dataset}`"
    parts = [
        f"{FRONT}\n# InfoGAN generator{'' if dataset == 'folder' else f': {dataset}'}\n",
        f"A generator of images with codes that control what is in them. InfoGAN ([Chen et al.,\n"
        f"2016](https://arxiv.org/abs/1606.03657)) learned it in {int(iteration):,} iterations on "
        f"{learned_from}, without labels\n(trained by fastinfogan with `--preset "
        f"{trained.config['model']['preset']}`; `config.json` has the layers).\n",
        f"![Samples]({pictures[0]})\n",
        LOAD.format(set=_example(codes), shape=(16, *described["image_shape"])),
        "## Its codes\n",
        _table(codes, trained.code_to_label, summary),
    ]
    if summary is not None and summary["evaluation"]["clusterings"]:
        error = min(c["error_hungarian"] for c in summary["evaluation"]["clusterings"])
        parts.append(
            "Matched one to one with the labels of real images, categories are wrong for "
            f"{error:.1%}\nof them. No label took part in training.\n"
        )
    for code, picture in zip(codes, pictures[1:], strict=True):
        parts.append(
            f"{code['name']}, from left to right:\n\n![{code['name']} varies]({picture})\n"
        )
    text = "\n".join([*parts, CITATION])
    return text + _mark(text.encode()).decode()


def is_as_written(card: bytes) -> bool:
    """Whether a card is one of ours, and nobody has edited it."""
    text, found, _ = card.partition(MARK)
    return bool(found) and card == text + _mark(text)


def _mark(text: bytes) -> bytes:
    """The last line, which tells an edited card from one that may be replaced."""
    return MARK + hashlib.sha256(text).hexdigest().encode() + b" -->\n"


def _example(codes: Sequence[Mapping[str, Any]]) -> str:
    """Values for a category and a continuous code, as arguments of ``sample``."""
    chosen: dict[float, str] = {}
    for code in codes:
        value = {"categorical": 1, "uniform": -1.5, "gaussian": -1.5}.get(code["kind"])
        if value is not None:
            chosen.setdefault(value, code["name"].split("_")[0])
    return "".join(f", {name}={value}" for value, name in chosen.items())


def _table(
    codes: Sequence[Mapping[str, Any]],
    labels: Mapping[str, Sequence[str | None]],
    summary: Mapping[str, Any] | None,
) -> str:
    """A row for each code."""
    measured = {} if summary is None else {c["name"]: c for c in summary["evaluation"]["codes"]}
    rows = [["code", "prior", "values", "what Q reads off images", "what its categories show"]]
    rows.append(["---"] * len(rows[0]))
    for code in codes:
        name, count = code["name"], code["width"]
        values = {"categorical": f"0 to {count - 1}", "bernoulli": "0 or 1"}.get(
            code["kind"], "any number; −2 to 2 shows most"
        )
        found = measured.get(name)
        if found is None:
            read = ""  # Q doesn't have to find it, or nothing was measured
        elif found["correlation"] is not None:
            read = f"correlation {found['correlation']:.2f}"
        else:
            read = f"{found['mi']:.3f} of {code['entropy']:.3f} nats"
        shown = [
            f"{k}: {'none' if label is None else _plain(label)}"
            for k, label in enumerate(labels.get(name, ()))
        ]
        row = [f"`{name.split('_')[0]}`", code["prior"], values, read, ", ".join(shown)]
        rows.append(row)
    filled = [i for i, _ in enumerate(rows[0]) if any(row[i] for row in rows[2:])]
    return "".join(f"| {' | '.join(row[i] for i in filled)} |\n" for row in rows)


def _plain(label: str) -> str:
    """Text from anywhere, as a table of Markdown shows it: nothing of it is taken for markup."""
    return re.sub(r"([^\w\s]|_)", r"\\\1", printable(label, _LONGEST))
