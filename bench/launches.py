"""Every Triton launch that the presets and datasets ask for, recorded with no GPU.

Every op runs once on tensors without data, in the shapes and dtypes of the presets and datasets, so
that what is recorded is what a GPU would be asked for: the same arguments, block sizes and warps.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from bench.asked import (
    BATCH,
    IMAGE_COUNTS,
    adam_sizes,
    bn_act_shapes,
    conv_layers,
    first_layers,
    image_shapes,
    latent_specs,
    layers_of_maps,
    linear_shapes,
    loss_codes,
    normalised_layers,
)
from fastinfogan.config import KERNEL, SLOPES
from fastinfogan.kernels import triton_module
from fastinfogan.kernels.adam import adam, offsets
from fastinfogan.kernels.bn_act import Normalising, bn_act
from fastinfogan.kernels.consistency import consistency
from fastinfogan.kernels.conv import conv_and_sums, tiles
from fastinfogan.kernels.gather import draw, gather, order
from fastinfogan.kernels.jitter import MOST
from fastinfogan.kernels.latents import latents
from fastinfogan.kernels.linear import layout, linear, linear_and_tail
from fastinfogan.kernels.linear_bn_act import linear_bn_act
from fastinfogan.kernels.linear_bn_act.layout import HALF
from fastinfogan.kernels.mi_loss import d_loss, g_loss, mi_loss
from fastinfogan.kernels.philox import STREAM_FAKE
from fastinfogan.kernels.triton_module import Launch
from fastinfogan.kernels.warp import draw_maps, warp

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


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
    for before, layer, last in conv_layers():
        slope = 1.0 if last is None else SLOPES.get(last.activation, 1.0)
        normalised = last is not None and last.norm
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
                    y, sums = conv_and_sums(
                        *leaves, layer.stride, up, follows, wanted, "triton",
                        x_slope=1.0 if normalised else slope,
                        front=_front(before[0], slope, groups) if normalised else None,
                    )  # fmt: skip
                    y.backward(torch.empty_like(y))
                    for running in (True, False) if sums is not None else ():  # not if frozen
                        numbers = [_empty(layer.features) for _ in range(2 + 2 * running)]
                        numbers += [None] * (4 - len(numbers))
                        bn_act(y.detach(), *numbers, 0.1, groups, sums=sums, impl="triton")


def _front(channels: int, slope: float, groups: int) -> Normalising:
    """A batchnorm that a layer begins with, which learns."""
    scale, shift, mean, var = (_empty(channels) for _ in range(4))
    return Normalising(scale.requires_grad_(), shift.requires_grad_(), mean, var, slope, groups)


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


def _run_linear_bn_act(dtype: torch.dtype) -> None:
    """In half precision. D sees two batches at once, and is frozen, as Q is, while G learns."""
    for outputs, inputs, stack in normalised_layers() if dtype in HALF else ():
        back = not layout.is_odd((outputs, inputs))  # behind G's first layer there is nobody
        for learning in (True, False)[: 1 if stack == "generator" else 2]:
            groups = 2 if learning and stack == "trunk" else 1
            x = _empty(groups * BATCH, inputs, dtype=dtype).requires_grad_(back)
            weight = _empty(outputs, inputs, dtype=dtype)
            scale, shift, mean, var = (_empty(outputs) for _ in range(4))
            for parameter in (weight, scale, shift):
                parameter.requires_grad_(learning)
            y = linear_bn_act(x, weight, scale, shift, mean, var, 0.1, groups, impl="triton")
            y.backward(torch.empty_like(y))


def _run_layers_of_maps(dtype: torch.dtype) -> None:
    """With the batchnorm before them, in D's own update and in G's."""
    for outputs, maps in layers_of_maps() if dtype in HALF else ():
        for groups in (1, 2):
            x = _empty(groups * BATCH, *maps, dtype=dtype).requires_grad_()
            weight = _empty(outputs, math.prod(maps), dtype=dtype)
            numbers = [_empty(outputs) for _ in range(4)]
            front = _front(maps[0], 0.1, groups)
            y = linear_bn_act(x, weight, *numbers, 0.1, groups, impl="triton", front=front)
            y.backward(torch.empty_like(y))


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
    _run_linear_bn_act,
    _run_layers_of_maps,
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
