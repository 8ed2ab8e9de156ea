"""generator.safetensors: a trained generator as one file that describes itself.

Tensors are float32 and contiguous, under the names of ``Generator.state_dict()``; the header says
how to put them together (docs/generator-format.md).
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from fastinfogan.config import Architecture, TrainConfig, to_dict
from fastinfogan.errors import UserError, one_line, why
from fastinfogan.files import atomic_write
from fastinfogan.json_files import parse_json
from fastinfogan.model.initial import Undrawn
from fastinfogan.model.latent_spec import LatentSpec
from fastinfogan.model.networks import Generator
from fastinfogan.model.plain import without_coordinates
from fastinfogan.model.weights import weights
from fastinfogan.paths import expanded
from fastinfogan.results.generator import TrainedGenerator
from fastinfogan.results.generator_words import (
    FORMAT_VERSION,
    MAX_NUMBERS,
    describe_generator,
    describe_latents,
    parse_header,
    parse_labels,
    read_json,
)
from fastinfogan.sizes import check_bytes

# What an older file, which has no digest, may hold beside what it must.
KEYS = frozenset(
    {
        "format_version", "architecture", "latent_spec", "image_shape", "output_range",
        "code_to_label", "training_config", "config_sha256", "library_version", "iteration",
    }
)  # fmt: skip
MAX_BYTES = 4 * MAX_NUMBERS + (1 << 24)  # float32, and room for the header


def export_generator(
    path: Path | str,
    generator: nn.Module,
    config: TrainConfig,
    *,
    iteration: int,
    code_to_label: Mapping[str, Sequence[str | None]] | None = None,
) -> None:
    """Write ``generator`` as generator.safetensors; the file is there whole or not at all.

    Args:
        path: the file.
        generator, config, iteration, code_to_label: as for ``generator_content``.

    Raises:
        UserError: a weight is NaN or infinite, or a label is no text, or too long.
    """
    try:
        content = generator_content(
            generator, config, iteration=iteration, code_to_label=code_to_label
        )
    except ValueError as error:
        raise UserError(f"{path} is not written: {error}") from None
    atomic_write(Path(path), content)


def generator_content(
    generator: nn.Module,
    config: TrainConfig,
    *,
    iteration: int,
    code_to_label: Mapping[str, Sequence[str | None]] | None = None,
) -> bytes:
    """What is in the generator.safetensors of ``generator``.

    Args:
        generator: a generator of ``config``, of either engine.
        config: resolved; stored without the paths in it.
        iteration: iterations trained.
        code_to_label: name of a categorical code -> the label that each of its categories shows,
            None where none fits.

    Raises:
        ValueError: a weight is NaN or infinite, or a label is no text, or too long.
    """
    architecture, tensors = without_coordinates(config.architecture, weights(generator))
    spec = config.spec
    portable = replace(
        config, data=replace(config.data, data_dir=None), run=replace(config.run, out=None)
    )
    metadata = {
        "architecture": describe_generator(architecture, spec),
        "latent_spec": describe_latents(spec),
        "image_shape": architecture.image_shape,
        "output_range": architecture.output_range,
        "training_config": to_dict(portable),
        **({"code_to_label": code_to_label} if code_to_label else {}),
    }
    tensors = {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in tensors.items()
    }
    header = {
        "format_version": FORMAT_VERSION,
        **{key: json.dumps(value) for key, value in metadata.items()},
        "config_sha256": config.fingerprint(),
        "library_version": version("fastinfogan"),
        "iteration": str(iteration),
    }
    _check_values(tensors)
    parse_labels(header, spec)
    header["sha256"] = _digest(header, tensors)
    return with_sorted_header(save(tensors, header))


def load_generator(path: Path | str, device: torch.device | str = "cpu") -> TrainedGenerator:
    """Rebuild a generator from the file alone.

    Args:
        path: the file, or a run's folder, for the one that the end of a run leaves there.
        device: where the generator is wanted.

    Raises:
        UserError: the file isn't there, isn't a generator.safetensors, is damaged, or describes
            something that this version can't build.
    """
    path = expanded(path)
    if path.is_dir():
        path /= "generator.safetensors"
    try:
        _check_size(path)
        # safetensors itself opens no names of any bytes
        return read_generator(path.read_bytes(), device)
    except FileNotFoundError:
        raise UserError(f"{path} is not there; name a run's folder or a generator file") from None
    except KeyError as error:
        reason = f"its header has no {one_line(error)}"
    except (
        OSError, SafetensorError, ValueError, TypeError, AttributeError, IndexError, RuntimeError,
    ) as error:  # fmt: skip
        reason = why(error)
    raise UserError(f"{path} is no generator file that this version can load: {reason}")


def read_generator(content: bytes, device: torch.device | str = "cpu") -> TrainedGenerator:
    """Rebuild a generator from what ``generator_content`` gave.

    Args:
        content: of a generator file; from elsewhere ``load_generator`` reads it with more care.
        device: where the generator is wanted.

    Raises:
        Exception: of whatever type, where something in it can't be read or built.
    """
    header = metadata_of(content)
    architecture, spec = parse_header(header)
    labels, config = parse_labels(header, spec), read_json(header, "training_config", dict)
    tensors = load(content)
    _check_tensors(tensors, architecture, spec)
    _check_values(tensors)
    _check_digest(header, tensors)
    with Undrawn():
        generator = Generator(architecture, spec)
    generator.load_state_dict(tensors, strict=False)  # all but torch's count of batches
    _check_image(generator.eval(), spec)
    return TrainedGenerator(
        generator=generator.to(device),
        spec=spec,
        output_range=architecture.output_range,
        code_to_label=labels,
        config=config,
    )


def with_sorted_header(content: bytes) -> bytes:
    """The file with its header's keys sorted, so that equal generators give equal files.

    safetensors writes the metadata in an order that changes from call to call.
    """
    (size,) = struct.unpack("<Q", content[:8])
    header = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)  # tensors start at a multiple of 8
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


def metadata_of(content: bytes) -> dict[str, str]:
    """What the file's header says beside names and places of tensors."""
    size = int.from_bytes(content[:8], "little")
    try:
        header = parse_json(content[8 : 8 + size], {"__metadata__?": {str: str}})
    except ValueError as error:
        raise ValueError(
            f"its header can't be read: {error}; fastinfogan export RUN writes such a file anew"
        ) from None
    return header.get("__metadata__", {})


def _digest(header: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of all that the file says: its metadata, but for the digest itself, and tensors."""
    others = {key: value for key, value in header.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(others, sort_keys=True, separators=(",", ":")).encode())
    for name in sorted(tensors):
        digest.update(tensors[name].numpy().astype("<f4", copy=False).data)
    return digest.hexdigest()


def _check_size(path: Path) -> None:
    """Before anything is read; a pipe would wait for its writer."""
    size = path.stat().st_size
    if not path.is_file():
        raise ValueError("it is not a regular file")
    check_bytes(size, MAX_BYTES)


def _check_tensors(
    tensors: Mapping[str, Tensor], architecture: Architecture, spec: LatentSpec
) -> None:
    with torch.device("meta"):  # shapes alone
        needed = {name: t.shape for name, t in weights(Generator(architecture, spec)).items()}
    for name in sorted({*needed, *tensors}):
        tensor = tensors.get(name)
        if name not in needed or tensor is None:
            raise ValueError(f"tensor {name} is {'missing' if name in needed else 'unexpected'}")
        if tensor.shape != needed[name] or tensor.dtype != torch.float32:
            raise ValueError(
                f"tensor {name} is {tensor.dtype} {tuple(tensor.shape)}, not torch.float32 "
                f"{tuple(needed[name])}"
            )


def _check_values(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f"tensor {name} holds NaN or infinite values")
        if name.endswith("running_var") and (tensor < 0).any():
            raise ValueError(f"tensor {name} holds variances below 0")


def _check_image(generator: Generator, spec: LatentSpec) -> None:
    """In a file without a digest a flipped bit may leave a weight of 1e38."""
    with torch.no_grad():
        if not generator(spec.assemble(*spec.sample(1, seed=0, offset=0))).isfinite().all():
            raise ValueError("its weights are too large: an image holds NaN")


def _check_digest(header: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
    if "sha256" in header:
        if header["sha256"] != _digest(header, tensors):
            raise ValueError("it is damaged: its content isn't what its sha256 stands for")
    elif odd := sorted(header.keys() - KEYS):
        raise ValueError(f"its header has the unknown key {odd[0]!r}")
