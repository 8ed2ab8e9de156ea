"""What the header of a generator.safetensors says, and reading it back: every word, or not at all.

docs/generator-format.md is the page about these words.
"""

from __future__ import annotations

import json
import math
import re
import typing
from collections.abc import Mapping
from typing import Any

from fastinfogan.config import KERNEL, NORM_EPS, SLOPES, Activation, Architecture, Layer
from fastinfogan.json_files import no_json
from fastinfogan.model.latent_spec import LatentSpec, make_spec

FORMAT_VERSION = "1"
# What a description may ask for. The presets stay far below: these bound what reading a file takes.
MAX_LAYERS, MAX_SIDE, MAX_NUMBERS = 64, 1024, 1 << 26
MAX_LABEL = 255  # characters: a folder's name has no more


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


def parse_header(header: Mapping[str, str]) -> tuple[Architecture, LatentSpec]:
    """The generator's rows and the latent specification, from their descriptions.

    Describing them again must give the header's words: what this version builds differently (a
    slope, an epsilon, a kernel, a feature order, a prior) can't pass unnoticed.

    Args:
        header: the file's metadata.

    Raises:
        KeyError: it lacks a key.
        ValueError: it says something that this version can't build, or that is too large.
    """
    if header["format_version"] != FORMAT_VERSION:
        raise ValueError(f"format_version {header['format_version']}, not {FORMAT_VERSION}")
    latents, layers, shape, limits = (
        read_json(header, key, kind)
        for key, kind in (
            ("latent_spec", dict), ("architecture", list), ("image_shape", list),
            ("output_range", list),
        )
    )  # fmt: skip
    noise, codes = latents["noise"]["width"], latents["specification"]
    if type(noise) is not int or type(codes) is not str:
        raise ValueError("its latent_spec can't be built")
    spec = make_spec(noise, codes)
    if not 1 <= len(layers) <= MAX_LAYERS:
        raise ValueError(f"its architecture has {len(layers)} layers; 1 to {MAX_LAYERS} work")
    architecture = Architecture(
        image_shape=tuple(shape),
        generator=tuple(_layer(layer) for layer in layers),
        trunk=(),  # the file holds no discriminator
        q_hidden=(),
    )
    _check_sizes(architecture, spec)
    last = architecture.rows(spec)["generator"][-1][2]
    for key, stored, built in (
        ("latent_spec", latents, describe_latents(spec)),
        ("architecture", layers, describe_generator(architecture, spec)),
        ("image_shape", shape, list(last)),
        ("output_range", limits, list(architecture.output_range)),
    ):
        if _json(stored) != _json(built):  # as text: 1, 1.0 and true are equal in Python
            raise ValueError(f"its {key} can't be built")
    for key, form in (("config_sha256", "[0-9a-f]{64}"), ("iteration", "[0-9]{1,18}")):
        if not re.fullmatch(form, header[key]):
            raise ValueError(f"its {key} is {header[key]!r}")
    return architecture, spec


def parse_labels(header: Mapping[str, str], spec: LatentSpec) -> dict[str, list[str | None]]:
    """The label of each category, by the name of its code; empty where the header has none.

    Raises:
        ValueError: these aren't labels of the codes' categories.
    """
    if "code_to_label" not in header:
        return {}
    labels = read_json(header, "code_to_label", dict)
    sizes = {name: code.categories for name, code in zip(spec.names, spec.codes, strict=True)}
    for code, names in labels.items():
        if not sizes.get(code) or not isinstance(names, list) or len(names) != sizes[code]:
            raise ValueError("its code_to_label doesn't fit its codes")
        for name in names:
            if name is not None and (not isinstance(name, str) or len(name) > MAX_LABEL):
                raise ValueError(
                    f"its code_to_label names a category of {code} {_json(name)}; text of at most "
                    f"{MAX_LABEL} characters and null work"
                )
    return labels


def read_json(header: Mapping[str, str], key: str, kind: type) -> Any:
    """The JSON value under a key of the header.

    Args:
        header: the file's metadata.
        key: one of its keys.
        kind: dict or list, whichever the value must be.

    Raises:
        KeyError: there is no such key.
        ValueError: it is no JSON, or a value of another kind.
    """
    text = header[key]
    try:
        value = json.loads(text, parse_constant=_no_number, object_pairs_hook=_no_pair_twice)
    except RecursionError:
        raise ValueError(f"its {key} is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"its {key} can't be read: {no_json(error)}") from None
    except ValueError as error:
        raise ValueError(f"its {key} is no JSON: {error}") from None
    if type(value) is not kind:
        raise ValueError(f"its {key} is no {'object' if kind is dict else 'list'}")
    return value


def _layer(described: Mapping[str, Any]) -> Layer:
    if type(described) is not dict:
        raise ValueError("its architecture can't be built: a layer is no object")
    kind, reshape = described["kind"], described.get("reshape")
    activation, stride = described["activation"]["kind"], described.get("stride", 1)
    for what, word, known in (
        ("kind", kind, ("fc", "upconv")),
        ("activation", activation, typing.get_args(Activation)),
        ("stride", stride, (1, 2)),
    ):
        if type(word) is not type(known[0]) or word not in known:
            raise ValueError(
                f"its architecture can't be built: the {what} {_json(word)} is unknown; "
                f"{', '.join(map(str, known))} are known"
            )
    shape = reshape and (reshape["channels"], reshape["height"], reshape["width"])
    features = described["outputs"][0]
    if any(type(size) is not int or size < 1 for size in (features, *(shape or ()))):
        raise ValueError("its architecture can't be built: a size is no whole number above 0")
    if shape is not None and (kind != "fc" or math.prod(shape) != features):
        raise ValueError("its architecture can't be built: a reshape doesn't fit its layer")
    return Layer(
        kind=kind,
        features=features,
        norm=described["norm"] is not None,
        activation=activation,
        stride=stride,
        shape=shape,
    )


def _check_sizes(architecture: Architecture, spec: LatentSpec) -> None:
    """Refuse what can't be put together, or whose weights or images would fill the memory."""
    shape, total = (spec.input_width,), 0
    for row in architecture.generator:
        if row.kind == "upconv" and len(shape) != 3:
            raise ValueError("its architecture can't be built: an upconv needs a map before it")
        total += row.parameters(shape)
        shape = row.output_shape(shape)
        if max(total, math.prod(shape)) > MAX_NUMBERS or max(shape[1:], default=0) > MAX_SIDE:
            raise ValueError(
                f"its architecture asks for more than {MAX_NUMBERS:,} weights, or values in a "
                f"layer, or {MAX_SIDE:,} pixels a side"
            )
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError("its architecture can't be built: it doesn't end in an image of 1 or 3 "
                         "channels")  # fmt: skip


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _no_pair_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key is there twice")
    return dict(pairs)
