"""Checkpoints: everything that a run needs to go on, in safetensors and JSON, written atomically.

``checkpoints/step_00000250.safetensors`` holds tensors: ``generator.NAME``,
``discriminator.NAME``, ``adam_g.NAME.exp_avg``, ``.exp_avg_sq`` and ``.step``, likewise
``adam_d``; ``average.generator.NAME`` and ``average.discriminator.NAME`` with ``--average``;
``loss_scale`` with float16; and ``window`` (the metrics since the last log line).
``step_00000250.json`` is written after it: where the run stands, and the SHA-256 of that and the
tensors. A checkpoint without its JSON is one whose writing was cut short. Where images are decoded
while training, the safetensors' metadata have the ``decoder`` and the identity of the ``files``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from torch import Tensor, nn

from fastinfogan.config import TrainConfig
from fastinfogan.device import on_host
from fastinfogan.engine.build import Engine
from fastinfogan.errors import TrainingDiverged, UserError
from fastinfogan.files import atomic_write, sync_folder
from fastinfogan.json_files import parse_json
from fastinfogan.model.weights import restore_weights, weights

KEEP = 2
_NAME = re.compile(r"step_(\d{8,})\.json")


@dataclass(frozen=True)
class Progress:
    """Where a run stands. All randomness is counter-based: these numbers are the RNG's state.

    Attributes:
        iteration: iterations done.
        seed: of all that is drawn.
        data_position: real images drawn so far.
        latent_offset: latent samples drawn so far.
        window_count: iterations summed up in the tensor ``window``.
        seconds: spent training, over all sessions.
        config_fingerprint: of the configuration.
        data_fingerprint: of the images.
    """

    iteration: int
    seed: int
    data_position: int
    latent_offset: int
    window_count: int
    seconds: float
    config_fingerprint: str
    data_fingerprint: str

    def digest(self, content: bytes) -> str:
        """SHA-256 of this and of the tensors that go with it."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode())
        digest.update(content)
        return digest.hexdigest()


_DESCRIBED = {**get_type_hints(Progress), "sha256": str}  # a checkpoint's JSON


def save_checkpoint(
    folder: Path,
    tensors: Mapping[str, Tensor],
    progress: Progress,
    origin: Mapping[str, str] | None = None,
) -> Path:
    """Save a checkpoint, and remove all but the newest two.

    Beside a training it takes one core: numpy's operations run in the thread that asks for them,
    where torch's would start as many threads as training has.

    Args:
        folder: of the checkpoints; it is made if need be.
        tensors: all that is to be kept, on the CPU.
        progress: where the run stood when they were copied.
        origin: of the images, as ``ImageData.origin``.

    Raises:
        TrainingDiverged: a weight or a moment is NaN or infinite; nothing is written.
    """
    arrays = {name: np.asarray(tensor.numpy(), order="C") for name, tensor in tensors.items()}
    for name, array in arrays.items():
        if name != "window" and not np.isfinite(array).all():
            raise TrainingDiverged(f"iteration {progress.iteration}: {name} is not finite")
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)
    path = folder / f"step_{progress.iteration:08d}.safetensors"
    content = safetensors.numpy.save(arrays, dict(origin) if origin else None)
    atomic_write(path, content)
    described = {**asdict(progress), "sha256": progress.digest(content)}
    atomic_write(path.with_suffix(".json"), json.dumps(described, indent=2).encode())
    remove_stale(folder)
    return path


def remove_stale(folder: Path) -> None:
    """Remove all checkpoints but the newest two, and tensors without their JSON."""
    for stale in list_checkpoints(folder)[KEEP:]:
        stale.with_suffix(".json").unlink()
    for path in {*folder.glob("step_*.safetensors")} - {*list_checkpoints(folder)}:
        path.unlink()


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints that were written to the end, newest first."""
    found = {int(m[1]): p for p in folder.glob("step_*.json") if (m := _NAME.fullmatch(p.name))}
    return [found[iteration].with_suffix(".safetensors") for iteration in sorted(found)[::-1]]


class Loaded(NamedTuple):
    """A checkpoint that is whole.

    Attributes:
        tensors: on the CPU.
        progress: where the run stood.
        origin: as for ``save_checkpoint``; older versions didn't say.
        damaged: each newer one that isn't whole, with what is wrong.
    """

    tensors: dict[str, Tensor]
    progress: Progress
    origin: dict[str, str]
    damaged: list[tuple[Path, str]]


def load_newest(folder: Path) -> Loaded:
    """The newest checkpoint that is whole.

    Raises:
        UserError: there is none.
    """
    damaged: list[tuple[Path, str]] = []
    for path in list_checkpoints(folder):
        try:
            described = parse_json(path.with_suffix(".json").read_bytes(), _DESCRIBED)
            content = path.read_bytes()
            digest = described.pop("sha256")
            progress = Progress(**described)
            if progress.digest(content) != digest:
                raise ValueError("its bytes are not those that were written")
            with safetensors.safe_open(path, "numpy") as file:
                origin = file.metadata() or {}
            return Loaded(safetensors.torch.load(content), progress, origin, damaged)
        except (OSError, ValueError, TypeError) as error:
            if isinstance(error, FileNotFoundError) and not path.with_suffix(".json").exists():
                return load_newest(folder)  # the run is training, and has newer ones by now
            damaged.append((path, f"checkpoint {path.name} is damaged, passed over: {error}"))
    detail = f" ({'; '.join(problem for _, problem in damaged)})" if damaged else ""
    raise UserError(f"{folder}: no usable checkpoint{detail}")


def check_fits(progress: Progress, config: TrainConfig, folder: Path) -> None:
    """Refuse a checkpoint of other settings.

    Raises:
        UserError: it is one; names ``folder``.
    """
    if progress.config_fingerprint != config.fingerprint():
        scaled = config.architecture.spectral is not None
        version = ", or of a version that scaled D's weights otherwise" if scaled else ""
        raise UserError(f"{folder}: its checkpoints are of another config.json{version}")


def set_aside(path: Path) -> None:
    """Rename a damaged checkpoint, so that it doesn't count as one of those that are kept."""
    for part in (path, path.with_suffix(".json")):
        if part.exists():
            part.replace(part.with_name(f"{part.name}.damaged"))


def engine_state(engine: Engine) -> dict[str, Tensor]:
    """Weights, buffers and optimiser moments under stable names, copied to the CPU."""
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
    if engine.loss_scale is not None:
        state["loss_scale"] = engine.loss_scale.state()
    return on_host({name: tensor.detach() for name, tensor in state.items()})


def restore_engine_state(engine: Engine, state: dict[str, Tensor]) -> None:
    """Put what ``engine_state`` gave into an engine of the same configuration."""
    restore_weights(engine.generator, state, "generator.")
    restore_weights(engine.discriminator, state, "discriminator.")
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
    if (engine.loss_scale is not None) != ("loss_scale" in state):
        before, here = ("float16", "another type") if "loss_scale" in state else (
            "another type", "float16",
        )  # fmt: skip
        raise UserError(
            f"--amp: this run was trained in {before}, and this device would go on in {here}; "
            "continue it on a device like the first, or start a new run with --amp-dtype"
        )
    if engine.loss_scale is not None:
        engine.loss_scale.restore(state["loss_scale"])


def _optimizers(engine: Engine) -> Sequence[tuple[str, nn.Module, Any]]:
    return (
        ("adam_g", engine.generator, engine.adam_g),
        ("adam_d", engine.discriminator, engine.adam_d),
    )
