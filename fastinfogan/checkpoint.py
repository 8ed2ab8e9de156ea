"""Checkpoints: everything that a run needs to go on, in safetensors and JSON, written atomically.

``checkpoints/step_00000250.safetensors`` holds tensors: ``generator.*``, ``discriminator.*``,
``adam_g.*`` and ``adam_d.*`` (per parameter ``exp_avg.NAME`` and ``exp_avg_sq.NAME``, and
``step``), ``window`` (the metrics since the last log line). ``step_00000250.json`` is written
after it, and names its SHA-256: a checkpoint without its JSON is one whose writing was cut short.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from fastinfogan.errors import TrainingDiverged, UserError

KEEP = 2
_NAME = re.compile(r"step_(\d{8})\.json")


@dataclass(frozen=True)
class Progress:
    """Where a run stands. All randomness is counter-based: these numbers are the RNG's state."""

    iteration: int  # iterations done
    seed: int
    data_position: int  # real images drawn so far
    latent_offset: int  # latent samples drawn so far
    window_count: int  # iterations summed up in the tensor ``window``
    seconds: float  # spent training, over all sessions
    config_fingerprint: str
    data_fingerprint: str


class Engine(Protocol):
    """What a checkpoint needs of an engine."""

    generator: nn.Module
    discriminator: nn.Module
    adam_g: torch.optim.Optimizer
    adam_d: torch.optim.Optimizer


def atomic_write(path: Path, content: bytes) -> None:
    """Write a file so that it's there whole or not at all, also after a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself
    finally:
        os.close(folder)


def save_checkpoint(folder: Path, engine: Engine, window: Tensor, progress: Progress) -> Path:
    """Save a checkpoint, and remove all but the newest two.

    Raises:
        TrainingDiverged: a weight is NaN or infinite; nothing is written.
    """
    tensors = engine_state(engine)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise TrainingDiverged(f"iteration {progress.iteration}: {name} is not finite")
    folder.mkdir(exist_ok=True)
    path = folder / f"step_{progress.iteration:08d}.safetensors"
    content = save({**tensors, "window": window.cpu()})
    atomic_write(path, content)
    described = {**asdict(progress), "sha256": hashlib.sha256(content).hexdigest()}
    atomic_write(path.with_suffix(".json"), json.dumps(described, indent=2).encode())
    for stale in list_checkpoints(folder)[KEEP:]:
        stale.with_suffix(".json").unlink()
        stale.unlink(missing_ok=True)
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints that were written to the end, newest first."""
    found = [path for path in folder.glob("step_*.json") if _NAME.fullmatch(path.name)]
    return [path.with_suffix(".safetensors") for path in sorted(found, reverse=True)]


def load_newest(folder: Path) -> tuple[dict[str, Tensor], Progress, list[str]]:
    """The newest checkpoint that is whole, on the CPU.

    Returns:
        Its tensors, its progress, and a line for each newer one that was damaged.

    Raises:
        UserError: there is none.
    """
    damaged = []
    for path in list_checkpoints(folder):
        try:
            described = json.loads(path.with_suffix(".json").read_text())
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != described.pop("sha256"):
                raise ValueError("its bytes are not those that were written")
            return load(content), Progress(**described), damaged
        except (OSError, ValueError, TypeError, KeyError) as error:
            damaged.append(f"checkpoint {path.name} is damaged and was passed over: {error}")
    detail = f" ({'; '.join(damaged)})" if damaged else ""
    raise UserError(f"{folder}: no usable checkpoint{detail}")


def engine_state(engine: Engine) -> dict[str, Tensor]:
    """Weights, buffers and optimiser moments under stable names, contiguous, on the CPU."""
    state: dict[str, Tensor] = {}
    for prefix, network in (
        ("generator", engine.generator),
        ("discriminator", engine.discriminator),
    ):
        for name, tensor in weights(network).items():
            state[f"{prefix}.{name}"] = tensor
    for prefix, network, adam in _optimizers(engine):
        for name, parameter in network.named_parameters():
            for key, tensor in adam.state[parameter].items():
                state[f"{prefix}.{name}.{key}"] = tensor
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def load_engine_state(engine: Engine, state: dict[str, Tensor]) -> None:
    """Put what ``engine_state`` gave into an engine of the same configuration."""
    load_weights(engine.generator, state, "generator.")
    load_weights(engine.discriminator, state, "discriminator.")
    for prefix, network, adam in _optimizers(engine):
        packed = adam.state_dict()
        packed["state"] = {
            index: {
                "step": state[f"{prefix}.{name}.step"],
                # In the parameter's memory format: the fused Adam walks both as they lie.
                **{
                    moment: torch.empty_like(parameter).copy_(state[f"{prefix}.{name}.{moment}"])
                    for moment in ("exp_avg", "exp_avg_sq")
                },
            }
            for index, (name, parameter) in enumerate(network.named_parameters())
        }
        adam.load_state_dict(packed)


def weights(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and running statistics; torch's count of batches isn't ours to keep."""
    return {
        name: tensor
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def load_weights(network: nn.Module, state: dict[str, Tensor], prefix: str) -> None:
    """Load the tensors whose names start with ``prefix``; every one must fit."""
    own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    missing, unexpected = network.load_state_dict(own, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise UserError(f"the checkpoint doesn't fit: {', '.join([*missing, *unexpected])}")


def _optimizers(engine: Engine) -> Any:
    return (
        ("adam_g", engine.generator, engine.adam_g),
        ("adam_d", engine.discriminator, engine.adam_d),
    )
