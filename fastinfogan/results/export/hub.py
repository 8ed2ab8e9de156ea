"""A folder that a model hub takes as it is: weights, configuration, the class for them, a card.

``PyTorchModelHubMixin`` of huggingface_hub reads it back. model.safetensors is the generator's file
itself, so that every reader of such files reads it too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastinfogan.errors import UserError
from fastinfogan.files import write_folder
from fastinfogan.results.export.card import is_as_written, model_card
from fastinfogan.results.generator_file import metadata_of, read_generator
from fastinfogan.results.grid import png_content

CARD, CONFIG, WEIGHTS, PROGRAM = (
    "README.md", "config.json", "model.safetensors", "modeling_infogan.py",
)  # fmt: skip
IMAGES = "images"


def write_hub(folder: Path, content: bytes, summary: Mapping[str, Any] | None) -> None:
    """Write the folder; it is there whole or not at all, and takes the place of an earlier one.

    Args:
        folder: where.
        content: of a generator file.
        summary: what the run's summary.json says, if there is one.

    Raises:
        UserError: there is something else at that place, or a card that somebody has edited.
        OSError: it can't be written.
    """
    _check_place(folder)
    header, trained = metadata_of(content), read_generator(content)
    words = ("architecture", "latent_spec", "image_shape", "output_range")
    described = {word: json.loads(header[word]) for word in words}
    described["code_to_label"] = trained.code_to_label
    pictures = {f"{IMAGES}/{name}.png": grid for name, grid in trained.pictures().items()}
    card = model_card(trained, described, [*pictures], summary, header["iteration"])
    write_folder(
        folder,
        {
            CARD: card.encode(),
            CONFIG: json.dumps(described, indent=1).encode(),
            WEIGHTS: content,
            PROGRAM: (Path(__file__).parent / PROGRAM).read_bytes(),
            **{name: png_content(grid) for name, grid in pictures.items()},
        },
    )


def _check_place(folder: Path) -> None:
    """Only what an export has written may go, and only if nobody has added to it."""
    if not folder.is_dir():
        return
    found = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if not path.is_dir()]
    # Python leaves these beside a program that has run.
    found = [path for path in found if path.parent != Path("__pycache__")]
    ours = {Path(CARD), Path(CONFIG), Path(WEIGHTS), Path(PROGRAM)}
    for path in found:
        if path not in ours and (path.parent != Path(IMAGES) or path.suffix != ".png"):
            raise UserError(
                f"{folder} is not written: {path} in it is not of an export; --output names "
                "another place"
            )
    if found and (Path(CARD) not in found or not is_as_written((folder / CARD).read_bytes())):
        raise UserError(
            f"{folder} is not written: its {CARD} is not as an export wrote it; move it away, or "
            "name another place with --output"
        )
