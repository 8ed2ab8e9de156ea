"""An ONNX model from a generator's file, node by node.

The layers of a file are two linear maps, batchnorm and five activations, each of which is one node
of ONNX. torch.onnx would trace a module to the same nodes, or to more, depending on its version.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load

from fastinfogan.results.generator_file import metadata_of

# Of 2022: old enough for any runtime, and nothing here has changed in meaning since.
OPSET, IR_VERSION = 17, 8
_ACTIVATIONS = {"relu": "Relu", "lrelu": "LeakyRelu", "sigmoid": "Sigmoid", "tanh": "Tanh"}
IMAGES = {
    "name": "images",
    "dtype": "float32",
    "layout": ["batch", "channel", "height", "width"],
    "range": [0.0, 1.0],  # black and white
}


def onnx_model(content: bytes, latents: bool = False) -> onnx.ModelProto:
    """A generator as ONNX.

    Args:
        content: of a generator file.
        latents: one input, G's whole vector, instead of noise and codes apart.

    Returns:
        A model with the inputs that docs/generator-format.md describes, and one output, images in
        float32 (batch, channels, height, width), black 0 and white 1.
    """
    header = metadata_of(content)
    said = {
        key: json.loads(header[key])
        for key in ("architecture", "latent_spec", "image_shape", "output_range")
    }
    spec, labels = said["latent_spec"], json.loads(header.get("code_to_label", "{}"))
    build = _Graph(load(content))
    if latents:
        x, inputs = "latents", _latents_input(spec)
    else:
        x, inputs = build.latents(spec), _inputs(spec, labels)
    for layer in said["architecture"]:
        x = build.layer(layer, x)
    build.to_unit_range(x, *said["output_range"])
    graph = helper.make_graph(
        build.nodes,
        "generator",
        [_value(**described) for described in inputs],
        [
            helper.make_tensor_value_info(
                IMAGES["name"], TensorProto.FLOAT, ["batch", *said["image_shape"]],
                "black 0, white 1; round(255 x) are the pixels that fastinfogan sample writes",
            )
        ],
        build.initializers,
        doc_string="An InfoGAN generator: noise and codes in, images out.",
    )  # fmt: skip
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="fastinfogan",
        producer_version=header["library_version"],
    )
    shown = [{**described, "shape": ["batch", *described["shape"]]} for described in inputs]
    own = {
        "inputs": json.dumps(shown),
        "output": json.dumps(IMAGES),
        "generator_sha256": header["sha256"],
    }
    kept = {
        key: value
        for key, value in sorted(header.items())
        if key not in ("format_version", "architecture", "output_range", "sha256")
    }
    helper.set_model_props(model, {**own, **kept})
    return model


def _latents_input(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    says = "noise, then the codes, as latent_spec in the model's metadata lays them out"
    return [{"name": "latents", "dtype": "float32", "shape": [spec["width"]], "says": says}]


def _inputs(
    spec: Mapping[str, Any], labels: Mapping[str, Sequence[str | None]]
) -> list[dict[str, Any]]:
    inputs: list[dict[str, Any]] = []
    noise = spec["noise"]
    if noise["width"]:
        inputs.append(
            {"name": "noise", "dtype": "float32", "shape": [noise["width"]],
             "says": f"drawn from {noise['prior']}"}
        )  # fmt: skip
    for code in spec["codes"]:
        described = {
            "name": _short(code),
            "dtype": "float32",
            "shape": [],
            "says": f"{code['name']}, drawn from {code['prior']}",
            "code": code["name"],
        }
        if code["encoding"] == "one-hot":
            described |= {"dtype": "int64", "categories": code["width"]}
            described["says"] += f"; a category, 0 to {code['width'] - 1}"
            if code["name"] in labels:
                described["labels"] = labels[code["name"]]
        inputs.append(described)
    return inputs


def _value(*, name: str, dtype: str, shape: Sequence[int], says: str, **_: Any) -> Any:
    kind = TensorProto.INT64 if dtype == "int64" else TensorProto.FLOAT
    return helper.make_tensor_value_info(name, kind, ["batch", *shape], says)


def _short(code: Mapping[str, Any]) -> str:
    return code["name"].split("_")[0]


class _Graph:
    """Nodes and constants, one after the other.

    Attributes:
        nodes: in the order in which they run.
        initializers: the constants that they read; weights have the names of the file's tensors.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        self.tensors = tensors
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._known: set[str] = set()

    def latents(self, spec: Mapping[str, Any]) -> str:
        """G's input from noise and codes."""
        parts = ["noise"] if spec["noise"]["width"] else []
        for code in spec["codes"]:
            short = _short(code)
            if code["encoding"] == "one-hot":
                # A row of the identity: unlike OneHot it refuses a category that isn't there.
                one_hot = np.eye(code["width"], dtype=np.float32)
                rows = self._constant(f"one_hot_{code['width']}", one_hot)
                parts.append(self._add("Gather", [rows, short], f"{short}.one_hot", axis=0))
            else:
                axis = self._constant("last_axis", np.array([1], np.int64))
                parts.append(self._add("Unsqueeze", [short, axis], f"{short}.value"))
        return self._add("Concat", parts, "latents", axis=1)

    def layer(self, layer: Mapping[str, Any], x: str) -> str:
        """What a row of ``architecture`` gives."""
        name = layer["name"]
        linear = [x, *self._weights(name, "op.weight", *(["op.bias"] if layer["bias"] else []))]
        if layer["kind"] == "fc":
            x = self._add("Gemm", linear, f"{name}.op", transB=1)
        else:
            before, after = layer["padding"]
            x = self._add(
                "ConvTranspose", linear, f"{name}.op",
                kernel_shape=[layer["kernel"]] * 2, strides=[layer["stride"]] * 2,
                pads=[before, before, after, after],
            )  # fmt: skip
        if layer["norm"]:
            numbers = self._weights(
                name, "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"
            )
            x = self._add(
                "BatchNormalization", [x, *numbers], f"{name}.norm", epsilon=layer["norm"]["eps"]
            )
        kind = layer["activation"]["kind"]
        if kind != "linear":
            slope = {"alpha": layer["activation"]["slope"]} if kind == "lrelu" else {}
            x = self._add(_ACTIVATIONS[kind], [x], f"{name}.activation", **slope)
        if "reshape" in layer:  # (height, width, channel) to (channel, height, width)
            shape = [0, *(layer["reshape"][side] for side in ("height", "width", "channels"))]
            maps = self._constant(f"{name}.shape", np.array(shape, np.int64))
            x = self._add("Reshape", [x, maps], f"{name}.reshape")
            x = self._add("Transpose", [x], f"{name}.map", perm=[0, 3, 1, 2])
        return x

    def to_unit_range(self, x: str, low: float, high: float) -> None:
        """The output: ``low`` becomes 0 and ``high`` 1."""
        if (low, high) == (0.0, 1.0):
            self.nodes.append(helper.make_node("Identity", [x], [IMAGES["name"]]))
            return
        scale = self._constant("scale", np.float32(1.0 / (high - low)))
        shift = self._constant("shift", np.float32(-low / (high - low)))
        self._add("Add", [self._add("Mul", [x, scale], "scaled"), shift], IMAGES["name"])

    def _add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def _weights(self, layer: str, *names: str) -> Iterator[str]:
        for name in names:
            yield self._constant(f"{layer}.{name}", self.tensors[f"{layer}.{name}"])

    def _constant(self, name: str, value: np.ndarray | np.float32) -> str:
        if name not in self._known:
            self._known.add(name)
            self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name
