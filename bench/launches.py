"""Every Triton launch that the presets and datasets ask for, recorded with no GPU.

Every op runs once on tensors without data, in the shapes and dtypes of the presets and datasets, so
that what is recorded is what a GPU would be asked for: the same arguments, block sizes and warps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from fastinfogan.config import KERNEL, PRESETS, SLOPES, Layer, Preset, Shape, folder_architecture
from fastinfogan.data import DATASETS
from fastinfogan.kernels import triton_module
from fastinfogan.kernels.adam import adam, offsets
from fastinfogan.kernels.bn_act import bn_act
from fastinfogan.kernels.codes import MAX_CATEGORIES, MAX_CODES, Code
from fastinfogan.kernels.consistency import consistency
from fastinfogan.kernels.conv import conv_and_sums, tiles
from fastinfogan.kernels.gather import draw, gather, order
from fastinfogan.kernels.jitter import MOST
from fastinfogan.kernels.latents import latents
from fastinfogan.kernels.linear import layout, linear, linear_and_tail
from fastinfogan.kernels.mi_loss import d_loss, g_loss, mi_loss
from fastinfogan.kernels.philox import STREAM_FAKE
from fastinfogan.kernels.triton_module import Launch
from fastinfogan.kernels.warp import draw_maps, warp
from fastinfogan.model.latent_spec import LatentSpec, make_spec
from fastinfogan.model.networks import Discriminator, Generator

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
BATCH = 128
FOLDER_SIZES = (16, 32, 64, 128)  # --image-size of the preset "folder", which has one of its own
# How many images there are: Triton compiles multiples of 16 and other numbers apart.
IMAGE_COUNTS = (60_000, 73_257)


# -- What the presets and datasets ask for -------------------------------------------------------


def bn_act_shapes() -> list[tuple[int, int]]:
    """(rows x pixels of one group, channels) of every normalised layer at batch 128."""
    found = set()
    for layer, _, shape in _layers(FOLDER_SIZES):
        # A fully connected layer is normalised before it becomes a map.
        pixels = 1 if layer.kind == "fc" else shape[1] * shape[2]
        if layer.norm:
            found.add((BATCH * pixels, layer.features))
    return sorted(found)


def conv_layers() -> list[tuple[Shape, Layer, float]]:
    """Every convolution of the presets, with the shape of its input without the batch.

    And with the slope that lies between it and a convolution before it, 1 if none does.
    """
    found, last = set(), None
    for layer, before, _ in _layers(()):
        if layer.kind != "fc":
            behind = last is not None and last.kind != "fc" and not last.norm
            found.add((before, layer, SLOPES.get(last.activation, 1.0) if behind else 1.0))
        last = layer
    return sorted(found, key=str)


def _layers(folder_sizes: tuple[int, ...]) -> Iterator[tuple[Layer, Shape, Shape]]:
    """Of all presets, and of folders of these sizes, with the shapes of input and output."""
    tables = [(preset.architecture, _spec_of(preset)) for preset in PRESETS.values()]
    spec = _spec_of(PRESETS["folder"])
    tables += [(folder_architecture(size, 3), spec) for size in folder_sizes]
    for architecture, codes in tables:
        for stack in architecture.rows(codes).values():
            yield from stack


def linear_shapes() -> list[tuple[int, int]]:
    """(outputs, inputs) of every fully connected layer that is small enough for our kernels."""
    found = set()
    for preset in PRESETS.values():
        for stack in preset.architecture.rows(_spec_of(preset)).values():
            for layer, before, _ in stack:
                shape = (layer.features, math.prod(before))
                if layer.kind == "fc" and layout.is_small(shape):
                    found.add(shape)
    return sorted(found)


def first_layers() -> list[tuple[int, int]]:
    """(outputs, inputs) of every G's first layer that a library can't read in whole vectors."""
    found = set()
    for preset in PRESETS.values():
        layer, before, _ = preset.architecture.rows(_spec_of(preset))["generator"][0]
        shape = (math.prod(layer.shape or (layer.features,)), math.prod(before))
        if layer.kind == "fc" and layout.is_odd(shape):
            found.add(shape)
    return sorted(found)


def adam_sizes() -> tuple[int, ...]:
    """Numbers in each parameter of the network with the most parameters, in their order."""
    found = []
    for preset in PRESETS.values():
        spec = _spec_of(preset)
        with torch.device("meta"):
            networks = (
                Generator(preset.architecture, spec),
                Discriminator(preset.architecture, spec, separate_q=False),
            )
        found += [tuple(p.numel() for p in network.parameters()) for network in networks]
    return max(found, key=lambda sizes: (len(sizes), sum(sizes)))


def latent_specs() -> list[LatentSpec]:
    """Noise and codes of every preset."""
    return list(dict.fromkeys(_spec_of(preset) for preset in PRESETS.values()))


def loss_codes() -> list[tuple[Code, ...]]:
    """The codes of every preset, and the most that --codes takes."""
    largest = (Code("categorical", MAX_CATEGORIES),) * MAX_CODES
    return [*dict.fromkeys(spec.codes for spec in latent_specs()), largest]


def image_shapes() -> list[tuple[int, int, int]]:
    """(height, width, channels) of every dataset's images, folders of any size included."""
    found = {dataset.image_shape for dataset in DATASETS.values()} - {None}
    found |= {(channels, size, size) for size in FOLDER_SIZES for channels in (1, 3)}
    return sorted((height, width, channels) for channels, height, width in found)


def _spec_of(preset: Preset) -> LatentSpec:
    return make_spec(preset.noise, preset.codes)


# -- Running every op on tensors without data ----------------------------------------------------


def _run_bn_act(dtype: torch.dtype) -> None:
    for rows, channels in bn_act_shapes():
        for groups, training, running, exchange in (
            (1, True, True, None), (2, True, True, None), (2, True, False, None),
            (1, False, True, None), (2, True, True, _of_two_ranks),
        ):  # fmt: skip
            x = _empty(rows * groups, channels, dtype=dtype).requires_grad_()
            weight, bias, mean, var = (_empty(channels) for _ in range(4))
            statistics = (mean, var) if running else (None, None)
            y = bn_act(
                x, weight, bias, *statistics, 0.1, groups,
                training=training, exchange=exchange, impl="triton",
            )  # fmt: skip
            y.backward(_empty(rows * groups, channels, dtype=dtype))


def _of_two_ranks(sums: torch.Tensor) -> torch.Tensor:
    return torch.cat((sums, sums))


def _run_conv(dtype: torch.dtype) -> None:
    if dtype not in tiles.DTYPES:
        return
    for before, layer, x_slope in conv_layers():
        up = layer.kind == "upconv"
        ends = (before[0], layer.features) if up else (layer.features, before[0])
        follows = 1.0 if layer.norm else SLOPES.get(layer.activation, layer.activation)
        # D looks at real and generated images at once; of images it wants no gradient in its own
        # update.
        for batch, groups in ((BATCH, 1), (2 * BATCH, 2)):
            for wants_x in (True, False):
                x, weight = (
                    _empty(*shape, dtype=dtype).contiguous(memory_format=torch.channels_last)
                    for shape in ((batch, *before), (*ends, KERNEL, KERNEL))
                )
                bias = _empty(layer.features, dtype=dtype).requires_grad_() if layer.bias else None
                leaves = x.requires_grad_(wants_x), weight.requires_grad_(), bias
                summed = groups if layer.norm else 0  # by ranks not even then
                for wanted in {0, summed}:
                    y, _ = conv_and_sums(
                        *leaves, layer.stride, up, follows, wanted, "triton", x_slope=x_slope
                    )
                    y.backward(torch.empty_like(y))


def _run_adam(dtype: torch.dtype) -> None:
    """Gradients of ``dtype``, but of vectors float32, as batchnorm's are; scaled where float16."""
    sizes = adam_sizes()
    params, exp_avg, exp_avg_sq = (_empty(offsets(sizes)[1]) for _ in range(3))
    grads = [_empty(size, dtype=torch.float32 if size <= 1024 else dtype) for size in sizes]
    scaled = dtype == torch.float16
    adam(
        params, grads, exp_avg, exp_avg_sq, _number(), _empty(1),
        beta1=0.5, beta2=0.999, eps=1e-8,
        copy=None if dtype == torch.float32 else params.to(dtype),
        inverse_scale=_empty(1) if scaled else None,
        found_inf=_empty(1) if scaled else None,
        impl="triton",
    )  # fmt: skip


def _run_latents(dtype: torch.dtype) -> None:
    for spec in latent_specs():
        for batch in (BATCH, 2 * BATCH):  # simultaneous updates; alternating ones
            latents(spec.noise, spec.codes, batch, _number(), _number(), dtype=dtype, impl="triton")


def _run_gather(dtype: torch.dtype) -> None:
    for count in IMAGE_COUNTS:
        for shape in image_shapes():
            images = _empty(count, *shape, dtype=torch.uint8)
            for low in (0.0, -1.0):
                wanted = {"output_range": (low, 1.0), "dtype": dtype, "impl": "triton"}
                draw(images, BATCH, _number(), _number(), **wanted)
                gather(images, _empty(BATCH, dtype=torch.int64), **wanted)
        order(_empty(BATCH, dtype=torch.int64), count, _number(), impl="triton")


def _run_mi_loss(dtype: torch.dtype) -> None:
    for codes in loss_codes():
        weights = (1.0,) * len(codes)
        q_params = _empty(BATCH, sum(code.q_width for code in codes), dtype=dtype)
        values = _empty(BATCH, len(codes))
        mi_loss(q_params, values, codes, weights, impl="triton")
        given = {"seed": _empty(1), "tally": _empty(2 + len(codes), dtype=torch.float64)}
        for loss, size in ((d_loss, 2 * BATCH), (g_loss, BATCH)):
            logits = _empty(size, dtype=dtype)
            loss(logits, q_params, values, codes, weights, impl="triton", **given)


def _run_linear(dtype: torch.dtype) -> None:
    for outputs, inputs in linear_shapes():
        for learning in (True, False):  # with D's and Q's gradients; in G's update without
            x = _empty(2 * BATCH, inputs, dtype=dtype).requires_grad_()
            parameters = _empty(outputs, inputs, dtype=dtype), _empty(outputs, dtype=dtype)
            for parameter in parameters:
                parameter.requires_grad_(learning)
            tail = BATCH if outputs == 1 else 0  # D's head hands Q the generated images' rows on
            y, rest = linear_and_tail(x, *parameters, tail, impl="triton")
            results = (y, rest) if tail else (y,)
            torch.autograd.backward(results, [torch.empty_like(part) for part in results])
    for outputs, inputs in first_layers():
        weight = _empty(outputs, inputs, dtype=dtype).requires_grad_()
        linear(_empty(BATCH, inputs, dtype=dtype), weight, None, impl="triton").sum().backward()


def _run_consistency(dtype: torch.dtype) -> None:
    for codes in loss_codes():
        if any(code.is_discrete for code in codes):
            q_params = _empty(BATCH, sum(code.q_width for code in codes), dtype=dtype)
            consistency(q_params, q_params, codes, impl="triton", seed=_empty(1))


def _run_warp(dtype: torch.dtype) -> None:
    for height, width, channels in image_shapes():
        x = _empty(BATCH, channels, height, width, dtype=dtype).requires_grad_()
        maps = draw_maps(MOST, BATCH, _number(), _number(), STREAM_FAKE, impl="triton")
        y = warp(x, maps, _empty(channels), impl="triton")
        y.backward(torch.empty_like(y))


def _empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _number() -> torch.Tensor:
    """A seed, a position, a number of steps."""
    return _empty(1, dtype=torch.int64)


RUNS = (
    _run_bn_act,
    _run_conv,
    _run_adam,
    _run_latents,
    _run_gather,
    _run_mi_loss,
    _run_linear,
    _run_consistency,
    _run_warp,
)


def all_launches() -> list[Launch]:
    """Every launch of every op in the presets' shapes, once per thing to compile."""
    triton_module.recorded.clear()
    for run in RUNS:
        for dtype in DTYPES:
            run(dtype)
    different = {}
    for launch in triton_module.recorded:
        different.setdefault(key_of(launch), launch)
    triton_module.recorded.clear()
    return list(different.values())


def key_of(launch: Launch) -> tuple[Any, ...]:
    """What two launches have in common for which Triton compiles the same."""
    signature, attributes, values = specialize(launch)
    options = {name: launch.constants[name] for name in launch.constants if name not in values}
    return (
        launch.kernel.__name__, *signature.items(), *attributes, *values.items(), *options.items()
    )  # fmt: skip


def specialize(
    launch: Launch,
) -> tuple[dict[str, Any], dict[tuple[int, ...], list[list[Any]]], dict[str, Any]]:
    """Types, what is divisible by 16, and compile-time values, as Triton's launcher has them."""
    pointers = {
        torch.float64: "*fp64",
        torch.float32: "*fp32",
        torch.bfloat16: "*bf16",
        torch.float16: "*fp16",
        torch.int32: "*i32",
        torch.int64: "*i64",
        torch.uint8: "*u8",
    }
    signature: dict[str, Any] = {}
    attributes: dict[tuple[int, ...], list[list[Any]]] = {}
    values: dict[str, Any] = {}

    def type_of(value: Any, path: tuple[int, ...]) -> Any:
        divisible = [["tt.divisibility", 16]]
        if isinstance(value, tuple):
            return tuple(type_of(part, (*path, i)) for i, part in enumerate(value))
        if isinstance(value, torch.Tensor):
            attributes[path] = divisible
            return pointers[value.dtype]
        if isinstance(value, float):
            return "fp32"
        if value % 16 == 0:
            attributes[path] = divisible
        return "i32" if value < 2**31 else "i64"

    names = launch.kernel.arg_names
    for i, (name, value) in enumerate(zip(names, launch.args, strict=False)):
        if value is None or (type(value) is int and value == 1):
            signature[name], values[name] = "constexpr", value
        else:
            signature[name] = type_of(value, (i,))
    for name, value in launch.constants.items():
        if name in names:
            signature[name], values[name] = "constexpr", value
    return signature, attributes, values
