"""generator.safetensors: a trained generator as one file that describes itself.

Tensors are float32 and contiguous, under the names of ``Generator.state_dict()``; the header says
how to put them together (docs/generator-format.md).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from fastinfogan.config import (
    KERNEL,
    NORM_EPS,
    SLOPES,
    Architecture,
    Layer,
    TrainConfig,
    to_dict,
)
from fastinfogan.errors import UserError, one_line
from fastinfogan.files import atomic_write
from fastinfogan.model.latent_spec import LatentSpec, make_spec
from fastinfogan.model.networks import Generator
from fastinfogan.model.weights import weights
from fastinfogan.paths import expanded
from fastinfogan.results.generator import TrainedGenerator

FORMAT_VERSION = "1"


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
        generator: a generator of ``config``, of either engine.
        config: resolved; stored without the paths in it.
        iteration: iterations trained.
        code_to_label: name of a categorical code -> the label that each of its categories shows,
            None where none fits.
    """
    architecture, spec = config.architecture, config.spec
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
        for name, tensor in weights(generator).items()
    }
    header = {
        "format_version": FORMAT_VERSION,
        **{key: json.dumps(value) for key, value in metadata.items()},
        "config_sha256": config.fingerprint(),
        "library_version": version("fastinfogan"),
        "iteration": str(iteration),
    }
    atomic_write(Path(path), _in_order(save(tensors, header)))


def load_generator(path: Path | str, device: torch.device | str = "cpu") -> TrainedGenerator:
    """Rebuild a generator from the file alone.

    Args:
        path: the file.
        device: where the generator is wanted.

    Raises:
        UserError: the file isn't there, isn't a generator.safetensors, is damaged, or describes
            something that this version can't build.
    """
    path = expanded(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        if header["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format_version {header['format_version']}, not {FORMAT_VERSION}")
        architecture, spec = _parse(header)
        _check_tensors(tensors, architecture, spec)
        generator = Generator(architecture, spec)
        generator.load_state_dict(tensors, strict=False)  # all but torch's count of batches
        return TrainedGenerator(
            generator=generator.to(device).eval(),
            spec=spec,
            output_range=architecture.output_range,
            code_to_label=_labels(header, spec),
            config=json.loads(header["training_config"]),
        )
    except KeyError as error:
        reason = f"its header has no {error}"
    except (
        OSError, SafetensorError, ValueError, TypeError, AttributeError, IndexError, RuntimeError,
    ) as error:  # fmt: skip
        reason = one_line(error)
    raise UserError(f"{path} is no generator file that this version can load: {reason}")


def _in_order(content: bytes) -> bytes:
    """The file with its header's keys sorted, so that equal generators give equal files.

    safetensors writes the metadata in an order that changes from call to call.
    """
    (size,) = struct.unpack("<Q", content[:8])
    header = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)  # tensors start at a multiple of 8
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


def describe_generator(architecture: Architecture, spec: LatentSpec) -> list[dict[str, Any]]:
    """The header's ``architecture``: the layers in order, as JSON values."""
    described = []
    for i, (row, before, after) in enumerate(architecture.rows(spec)["generator"]):
        layer: dict[str, Any] = {
            "name": f"layers.{i}",
            "kind": row.kind,
            "inputs": list(before),
            "outputs": [row.features] if row.kind == "fc" else list(after),
        }
        if row.kind == "upconv":
            layer |= {"kernel": KERNEL, "stride": row.stride, "padding": list(row.padding)}
        layer["bias"] = row.bias
        layer["norm"] = {"kind": "batchnorm", "eps": NORM_EPS} if row.norm else None
        layer["activation"] = {"kind": row.activation}
        if row.activation in SLOPES:
            layer["activation"]["slope"] = SLOPES[row.activation]
        if row.shape is not None:
            channels, height, width = row.shape
            layer["reshape"] = {
                "channels": channels,
                "height": height,
                "width": width,
                "feature_order": ["height", "width", "channel"],
            }
        described.append(layer)
    return described


def describe_latents(spec: LatentSpec) -> dict[str, Any]:
    """The header's ``latent_spec``: what each number of the input vector is, as JSON values."""
    codes, offset = [], spec.noise
    for name, code in zip(spec.names, spec.codes, strict=True):
        codes.append(
            {
                "name": name,
                "kind": code.kind,
                "offset": offset,
                "width": code.input_width,
                "encoding": "one-hot" if code.has_categories else "value",
                "prior": code.prior,
                "entropy": code.entropy,
            }
        )
        offset += code.input_width
    return {
        "width": spec.input_width,
        "specification": str(spec),
        "noise": {"offset": 0, "width": spec.noise, "prior": "N(0, 1)"},
        "codes": codes,
    }


def _parse(header: Mapping[str, str]) -> tuple[Architecture, LatentSpec]:
    """The generator's rows and the latent specification, from their descriptions.

    Describing them again must give the header's words: what this version builds differently (a
    slope, an epsilon, a kernel, a feature order, a prior) can't pass unnoticed.
    """
    latents = json.loads(header["latent_spec"])
    spec = make_spec(latents["noise"]["width"], latents["specification"])
    layers = json.loads(header["architecture"])
    architecture = Architecture(
        image_shape=tuple(json.loads(header["image_shape"])),
        generator=tuple(_layer(layer) for layer in layers),
        trunk=(),  # the file holds no discriminator
        q_hidden=(),
    )
    last = architecture.rows(spec)["generator"][-1][2]
    for key, stored, built in (
        ("latent_spec", latents, describe_latents(spec)),
        ("architecture", layers, describe_generator(architecture, spec)),
        ("image_shape", architecture.image_shape, last),
        ("output_range", json.loads(header["output_range"]), list(architecture.output_range)),
    ):
        if stored != built:
            raise ValueError(f"its {key} can't be built")
    return architecture, spec


def _labels(header: Mapping[str, str], spec: LatentSpec) -> dict[str, list[str | None]]:
    labels = json.loads(header.get("code_to_label", "{}"))
    sizes = {name: code.categories for name, code in zip(spec.names, spec.codes, strict=True)}
    if any(len(names) != sizes.get(code) for code, names in labels.items()):
        raise ValueError("its code_to_label doesn't fit its codes")
    return labels


def _layer(described: Mapping[str, Any]) -> Layer:
    reshape = described.get("reshape")
    return Layer(
        kind=described["kind"],
        features=described["outputs"][0],
        norm=described["norm"] is not None,
        activation=described["activation"]["kind"],
        stride=described.get("stride", 1),
        shape=reshape and (reshape["channels"], reshape["height"], reshape["width"]),
    )


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
