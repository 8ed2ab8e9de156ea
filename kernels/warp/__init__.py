"""Small random changes of images: an affine map, sampled bilinearly; how light they are.

An image lies on the square from -1 to 1 along either axis, its pixels' centres at
(2 i + 1) / size - 1. A *map* is eight numbers (a, b, tx, c, d, ty, gain, bias): pixel (x, y) of the
result shows the place

    (a x + b y + tx, c x + d y + ty)

of the image, as the mean of the four pixels around it, each weighed by one minus its distance along
either axis; beyond its border an image is ``fill`` everywhere. With m the middle of the range,

    result = gain (place - m) + m + bias

A result is linear in the image; backward, an image's pixel gets gain times the weights that it had,
times the gradients of the pixels that show it.

Map n of a run is drawn from the words of Philox(seed, counter = (n low, n high, 0 to 2, stream)),
each an even number u from -1 to 1, by the ranges of a ``Jitter``; with h half the range of values,

    angle = rotation u0    k = 1 + scale u1    s = shear u2    t = shift (u3, u4)
    ((a, b), (c, d)) = k ((cos, -sin), (sin, cos)) ((1, s), (0, 1))
    e = 1 + exposure u8, about black, then contrast, 1 + contrast u5, about the middle:
    gain = e (1 + contrast u5)    bias = (e - 1) (1 + contrast u5) h + brightness u6 h
    mirrored if flip u7 > 0

The pixels that show a pixel lie in a small box, which Triton looks through for each, so that a
gradient is added up in the same order every time; the CPU takes an image's pixels in their order.

(Differentiable augmentation: Zhao et al. 2020. The sampling is that of spatial transformers,
Jaderberg et al. 2015, section 3.3.)
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

import fastinfogan.kernels.warp.registration  # noqa: F401  (registers what op() gives)
from fastinfogan.kernels.channels_last import channels_last
from fastinfogan.kernels.dispatch import NATIVE_DTYPES, TRITON_DTYPES, Impl, choose, op
from fastinfogan.kernels.jitter import Jitter
from fastinfogan.kernels.once import once
from fastinfogan.kernels.philox import halves, philox_reference
from fastinfogan.kernels.warp.arguments import RANGES, check_draw_maps, check_warp

Range = tuple[float, float]


def draw_maps_reference(
    jitter: Jitter,
    batch: int,
    seed: Tensor,
    offset: Tensor,
    stream: int,
    output_range: Range = (0.0, 1.0),
) -> Tensor:
    """Maps ``offset`` to ``offset + batch - 1`` of a stream, in plain torch.

    Args:
        jitter: the ranges.
        batch: maps to draw.
        seed, offset: int64 of shape (1,).
        stream: tells apart what maps are drawn for.
        output_range: of the images that they are for.

    Returns:
        (batch, 8) float32.
    """
    n = offset + torch.arange(batch, device=seed.device)
    zero = torch.zeros_like(n)
    words = [
        word
        for block in (0, 1, 2)
        for word in philox_reference(seed, *halves(n), zero + block, zero + stream)
    ]
    u = [2.0 * ((word.double() + 0.5) * 2.0**-32).float() - 1.0 for word in words]
    angle, k = jitter.rotation * u[0], 1.0 + jitter.scale * u[1]
    s, tx, ty = jitter.shear * u[2], jitter.shift * u[3], jitter.shift * u[4]
    cos, sin = torch.cos(angle), torch.sin(angle)
    mirror = torch.where(jitter.flip * u[7] > 0.0, -1.0, 1.0)
    half = 0.5 * (output_range[1] - output_range[0])
    contrast, lighter = 1.0 + jitter.contrast * u[5], jitter.exposure * u[8]
    gain = contrast * (1.0 + lighter)
    bias = (contrast * lighter + jitter.brightness * u[6]) * half
    return torch.stack(
        [
            mirror * k * cos,
            mirror * k * (s * cos - sin),
            mirror * tx,
            k * sin,
            k * (s * sin + cos),
            ty,
            gain,
            bias,
        ],
        dim=1,
    )


def warp_reference(
    x: Tensor, maps: Tensor, fill: Tensor, output_range: Range = (0.0, 1.0)
) -> Tensor:
    """The images as their maps show them, in plain torch.

    Args:
        x: (B, C, H, W), any float dtype and memory format; the arithmetic is float32 or wider.
        maps: (B, 8) float32.
        fill: (C,) float32: what lies beyond an image's border.
        output_range: of the images.

    Returns:
        A tensor like ``x``, channels-last.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    maps, fill = maps.to(wide.dtype), fill.to(wide.dtype).view(1, -1, 1, 1)
    grid = F.affine_grid(maps[:, :6].reshape(-1, 2, 3), list(x.shape), align_corners=False)
    moved = F.grid_sample(wide - fill, grid, "bilinear", "zeros", align_corners=False) + fill
    middle = 0.5 * (output_range[0] + output_range[1])
    gain, bias = maps[:, 6].view(-1, 1, 1, 1), maps[:, 7].view(-1, 1, 1, 1)
    result = gain * (moved - middle) + middle + bias
    return result.to(x.dtype).contiguous(memory_format=torch.channels_last)


class WarpFunction(torch.autograd.Function):
    """Keeps the maps alone: the gradient doesn't depend on the images."""

    @staticmethod
    def forward(ctx, x: Tensor, maps: Tensor, fill: Tensor, settings: tuple[float, Impl]) -> Tensor:
        middle, impl = settings
        ctx.save_for_backward(maps)
        ctx.settings = settings
        return op("warp_forward", impl, x)(channels_last(x), maps, fill, middle)

    @staticmethod
    @once("warp")
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        (maps,) = ctx.saved_tensors
        return op("warp_backward", ctx.settings[1], dy)(channels_last(dy), maps), None, None, None


def draw_maps(
    jitter: Jitter,
    batch: int,
    seed: Tensor,
    offset: Tensor,
    stream: int,
    *,
    shift: int = 0,
    output_range: Range = (0.0, 1.0),
    impl: Impl = "auto",
) -> Tensor:
    """Maps ``offset + shift`` to ``offset + shift + batch - 1`` of a stream.

    The host reads neither seed nor offset, so that a CUDA graph draws what they hold when it is
    replayed.

    Args:
        jitter: the ranges, from 0 to those of ``jitter.MOST``.
        batch: maps to draw, 1 or more.
        seed, offset: int64 of shape (1,), on the device where the maps are wanted; meant to be 0
            or more, which isn't checked (a negative one counts as the 64 bits that it has).
        stream: tells apart what maps are drawn for: ``philox.STREAM_COPY`` and its like.
        shift: added to the offset: a rank's share, or an iteration's second draw.
        output_range: of the images that they are for, which brightness and exposure go by.
        impl: see ``dispatch.choose``.

    Returns:
        (batch, 8) float32.

    Raises:
        ValueError: an argument is off: the message names it.
        RuntimeError: ``impl`` can't run here.
    """
    check_draw_maps(jitter, batch, seed, offset, stream, output_range)
    impl = choose("draw_maps", impl, seed, native=(torch.int64,), triton=(torch.int64,))
    if impl == "reference":
        return draw_maps_reference(jitter, batch, seed, offset + shift, stream, output_range)
    ranges = [getattr(jitter, name) for name in RANGES]
    half_range = 0.5 * (output_range[1] - output_range[0])
    return op("draw_maps", impl, seed)(seed, offset, shift, batch, stream, ranges, half_range)


def warp(
    x: Tensor,
    maps: Tensor,
    fill: Tensor,
    output_range: Range = (0.0, 1.0),
    impl: Impl = "auto",
) -> Tensor:
    """The images as their maps show them; differentiable in ``x``, not in ``maps`` or ``fill``.

    Args:
        x: (B, C, H, W), float32, bfloat16, float16 or float64. Any strides do; channels-last ones
            need no copy. The arithmetic is float32, or float64 if x is.
        maps: (B, 8) float32; an image whose map isn't finite is NaN.
        fill: (C,) float32: what lies beyond an image's border.
        output_range: of the images; contrast is about its middle.
        impl: see ``dispatch.choose``.

    Returns:
        A tensor like ``x``, channels-last.

    Raises:
        ValueError: an argument is off: the message names it.
        RuntimeError: ``impl`` can't run here.
    """
    check_warp(x, maps, fill, output_range)
    impl = choose("warp", impl, x, native=NATIVE_DTYPES, triton=TRITON_DTYPES)
    if impl == "reference":
        return warp_reference(x, maps, fill, output_range)
    middle = 0.5 * (output_range[0] + output_range[1])
    return WarpFunction.apply(x, maps.contiguous(), fill, (middle, impl))
