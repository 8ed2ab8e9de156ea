"""The formats of an export, and what each is called unless told otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from fastinfogan.errors import UserError

Format = Literal["safetensors", "onnx", "onnx-latents", "hub"]
_NAMES: dict[Format, str] = {
    "safetensors": "generator.safetensors",
    "onnx": "generator.onnx",
    "onnx-latents": "generator_latents.onnx",
    "hub": "hub",
}


def default_name(format: Format) -> str:
    """What an export is called in the run directory.

    Raises:
        UserError: there is no such format.
    """
    if format not in _NAMES:
        raise UserError(f"format {format!r}: {', '.join(_NAMES)} work")
    return _NAMES[format]


def write_for_others(
    format: Format, path: Path, content: bytes, summary: Mapping[str, Any] | None
) -> None:
    """Write a generator's file in another format.

    Args:
        format: any but "safetensors", which the content is.
        path: where.
        content: of a generator file.
        summary: what the run's summary.json says, if there is one.

    Raises:
        UserError, OSError: as ``write_onnx`` and ``write_hub``.
    """
    if format == "hub":
        from fastinfogan.results.export.hub import write_hub

        write_hub(path, content, summary)
    else:
        from fastinfogan.results.export.onnx_file import write_onnx

        write_onnx(path, content, latents=format == "onnx-latents")
