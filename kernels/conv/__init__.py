"""4x4 convolutions: stride 2 with one zero around the map, stride 1 "same", and their transposes.

Every convolution of the networks lies between a large map (B, C, H, W) and a small one
(B, M, H / stride, W / stride), with a weight (M, C, 4, 4); "same" puts one zero before each
spatial axis and, with stride 1, two after. In channels-last memory all of these are matrices
without a copy: a map has a row per pixel, the weight is W, (M, 16 C) with columns (ky, kx, c).
Let patches(x) be the matrix (B rows columns, 16 C) whose rows are the 4x4 patches of a large map x
that the small map's pixels see, with zeros outside of x, and let fold be its transpose, which adds
patches up into a large map. With x the input, y the output:

                      convolution (x large)        transposed (x small)
    y                 patches(x) W^T + bias        fold(x W) + bias
    dx                fold(dy W)                   patches(dy) W^T
    dW                dy^T patches(x)              x^T patches(dy)

so there are three operations: ``down`` from a large map to a small one, ``up`` from a small map to
a large one, and ``weight``, dW from both. (Lowering to matrix products: Chellapilla, Puri and
Simard 2006.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fastinfogan.kernels.dispatch import NATIVE, Impl, choose, op, register

_TAPS = 4


def conv_reference(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, transposed: bool = False
) -> Tensor:
    """The convolution in plain torch.

    Args:
        x: (B, I, H, W), any float dtype and memory format.
        weight: (O, I, 4, 4), or (I, O, 4, 4) if ``transposed``.
        bias: (O,) or None.
        stride: 1 or 2.
        transposed: the transposed convolution: maps grow.

    Returns:
        (B, O, H / stride, W / stride), rounded down, or (B, O, H * stride, W * stride).
    """
    if not transposed:
        return F.conv2d(_padded(x, stride), weight, bias, stride, padding=stride - 1)
    y = F.conv_transpose2d(x, weight, bias, stride, padding=1)
    return y if stride == 2 else y[..., :-1, :-1]  # "same" crops two after, padding=1 only one


def _padded(large: Tensor, stride: int) -> Tensor:
    """With stride 1, the map in its zeros: torch's own padding is symmetrical."""
    return large if stride == 2 else F.pad(large, (1, 2, 1, 2))


# -- The library's three operations --------------------------------------------------------------


def _library_down(large: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    return _channels_last(conv_reference(large, weight, bias, stride))


def _library_up(
    small: Tensor, weight: Tensor, bias: Tensor | None, stride: int, height: int, width: int
) -> Tensor:
    if stride == 1:
        return _channels_last(conv_reference(small, weight, bias, stride, transposed=True))
    odd = height % 2, width % 2  # the last row and column, which no patch may reach
    return _channels_last(F.conv_transpose2d(small, weight, bias, stride, 1, odd))


def _library_weight(large: Tensor, small: Tensor, stride: int) -> Tensor:
    weight = _empty_weight(large, small)
    grad = torch.ops.aten.convolution_backward(
        *(small, _padded(large, stride), weight, None),
        *((stride, stride), (stride - 1, stride - 1), (1, 1), False, (0, 0), 1),
        (False, True, False),
    )[1]
    return _channels_last(grad)


# -- Native --------------------------------------------------------------------------------------
# Patches take 16 / stride^2 times the memory of the map, so they are made for a few images at a
# time. Not for bfloat16: `up` would add up products that were rounded to 8 bits before, and
# `weight` would round its sum once a chunk.

_NATIVE_DTYPES = {torch.float32: 0, torch.float64: 2}

# Patches made at a time: in the last-level cache of most CPUs, and large enough that the matrix
# product doesn't spend its time on packing the weight.
_CHUNK_BYTES = 4 << 20


def _native_down(large: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    rows, columns = large.shape[2] // stride, large.shape[3] // stride
    small = _empty(large, large.shape[0], weight.shape[0], rows, columns)
    matrix = _weight_matrix(weight).t()
    for images, patches in _chunks(large, rows, columns):
        _fill_patches(large[images], patches, rows, columns, stride)
        y = _pixel_matrix(small[images])
        if bias is None:
            torch.mm(patches, matrix, out=y)
        else:
            torch.addmm(bias, patches, matrix, out=y)
    return small


def _native_up(
    small: Tensor, weight: Tensor, bias: Tensor | None, stride: int, height: int, width: int
) -> Tensor:
    rows, columns = small.shape[2:]
    large = _empty(small, small.shape[0], weight.shape[1], height, width)
    matrix = _weight_matrix(weight)
    bias = None if bias is None else bias.repeat(stride)  # as long as a run of pixels
    for images, patches in _chunks(large, rows, columns):
        torch.mm(_pixel_matrix(small[images]), matrix, out=patches)
        y = large[images]
        NATIVE.conv_fold(
            *_native_shape(y, rows, columns, stride),
            *(patches.data_ptr(), 0 if bias is None else bias.data_ptr(), y.data_ptr()),
        )
    return large


def _native_weight(large: Tensor, small: Tensor, stride: int) -> Tensor:
    rows, columns = small.shape[2:]
    weight = _empty_weight(large, small)
    matrix = _weight_matrix(weight)
    for images, patches in _chunks(large, rows, columns):
        _fill_patches(large[images], patches, rows, columns, stride)
        torch.addmm(
            matrix,
            _pixel_matrix(small[images]).t(),
            patches,
            beta=float(images.start > 0),  # with 0 what was in memory is not even read
            out=matrix,
        )
    return weight


def _chunks(large: Tensor, rows: int, columns: int) -> Iterator[tuple[slice, Tensor]]:
    """The batch in parts, with memory for the patches of each; by the shape alone."""
    width = _TAPS * _TAPS * large.shape[1]
    image = rows * columns * width * large.element_size()
    count = min(max(1, _CHUNK_BYTES // image), large.shape[0])
    patches = large.new_empty((count * rows * columns, width))
    for first in range(0, large.shape[0], count):
        last = min(first + count, large.shape[0])
        yield slice(first, last), patches[: (last - first) * rows * columns]


def _fill_patches(large: Tensor, patches: Tensor, rows: int, columns: int, stride: int) -> None:
    NATIVE.conv_patches(
        *_native_shape(large, rows, columns, stride), large.data_ptr(), patches.data_ptr()
    )


def _native_shape(large: Tensor, rows: int, columns: int, stride: int) -> tuple[int, ...]:
    batch, channels, height, width = large.shape
    return _NATIVE_DTYPES[large.dtype], batch, height, width, channels, rows, columns, stride


def _pixel_matrix(maps: Tensor) -> Tensor:
    """(B, C, H, W), channels-last, as (B H W, C)."""
    return maps.permute(0, 2, 3, 1).view(-1, maps.shape[1])


def _weight_matrix(weight: Tensor) -> Tensor:
    """(M, C, 4, 4), channels-last, as (M, 16 C)."""
    return weight.permute(0, 2, 3, 1).view(weight.shape[0], -1)


def _empty(like: Tensor, batch: int, channels: int, height: int, width: int) -> Tensor:
    size = batch, channels, height, width
    layout = torch.channels_last
    return torch.empty(size, dtype=like.dtype, device=like.device, memory_format=layout)


def _empty_weight(large: Tensor, small: Tensor) -> Tensor:
    return _empty(large, small.shape[1], large.shape[1], _TAPS, _TAPS)


def _channels_last(x: Tensor) -> Tensor:
    """In channels-last memory, and with its strides (where a size is 1, others would do too)."""
    return x.contiguous(memory_format=torch.channels_last)


# -- Registration --------------------------------------------------------------------------------


def _fake_down(large, weight, bias, stride):
    rows, columns = large.shape[2] // stride, large.shape[3] // stride
    return _empty(large, large.shape[0], weight.shape[0], rows, columns)


def _fake_up(small, weight, bias, stride, height, width):
    return _empty(small, small.shape[0], weight.shape[1], height, width)


def _fake_weight(large, small, stride):
    return _empty_weight(large, small)


register(
    "conv_down(Tensor large, Tensor weight, Tensor? bias, int stride) -> Tensor",
    native=_native_down,
    fake=lambda impl: _fake_down,
)
register(
    "conv_up(Tensor small, Tensor weight, Tensor? bias, int stride, int height, int width) "
    "-> Tensor",
    native=_native_up,
    fake=lambda impl: _fake_up,
)
register(
    "conv_weight(Tensor large, Tensor small, int stride) -> Tensor",
    native=_native_weight,
    fake=lambda impl: _fake_weight,
)


# -- The rule ------------------------------------------------------------------------------------

_LIBRARY = {"down": _library_down, "up": _library_up, "weight": _library_weight}


def native_is_faster(
    operation: str, dtype: torch.dtype, large: Sequence[int], channels: int, stride: int
) -> bool:
    """Whether "auto" takes the native operation. By shapes alone: resuming takes the same path.

    Measured over the presets' layers (docs/kernels.md has the table), with AVX-512:

    * torch has no fast convolution in float64.
    * Torch's are poor on small maps. But ``down`` needs a large weight to gain from that: it packs
      the patches, which the direct convolution doesn't.
    * ``up`` to an image's 1 or 3 channels is 3 to 5 times as fast; so is ``down`` from 1 channel,
      since torch takes that for NCHW and puts out NCHW, which must be copied.

    Args:
        operation: "down", "up" or "weight".
        dtype: of maps and weight.
        large: shape of the large map.
        channels: those of the small map.
        stride: 1 or 2.
    """
    if dtype == torch.float64:
        return True
    _, image_channels, height, width = large
    if (height // stride) * (width // stride) <= 16:
        return operation != "down" or channels * image_channels * _TAPS**2 >= 1 << 20
    return image_channels <= {"down": 1, "up": 3, "weight": 0}[operation]


# -- The op --------------------------------------------------------------------------------------


class ConvFunction(torch.autograd.Function):
    """Keeps x only for a gradient of the weight, and the weight only for one of x."""

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: int,
        transposed: bool,
        impl: Impl,
    ) -> Tensor:
        x, weight = _channels_last(x), _channels_last(weight)
        wants_x, wants_weight, _ = ctx.needs_input_grad[:3]
        ctx.save_for_backward(x if wants_weight else None, weight if wants_x else None)
        ctx.settings = x.shape[2:], stride, transposed, impl
        if transposed:
            return _up(impl, x, weight, bias, stride, (x.shape[2] * stride, x.shape[3] * stride))
        return _down(impl, x, weight, bias, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        size, stride, transposed, impl = ctx.settings
        dy = _channels_last(dy)  # .sum() hands down strides of 0
        dx = dweight = dbias = None
        if ctx.needs_input_grad[0]:
            if transposed:
                dx = _down(impl, dy, weight, None, stride)
            else:
                dx = _up(impl, dy, weight, None, stride, size)
        if ctx.needs_input_grad[1]:
            large, small = (dy, x) if transposed else (x, dy)
            dweight = _weight(impl, large, small, stride)
        if ctx.needs_input_grad[2]:
            dbias = _pixel_matrix(dy).sum(0)
        return dx, dweight, dbias, None, None, None


def _down(impl: Impl, large: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    run = _implementation("down", impl, large, large.shape, weight.shape[0], stride)
    return run(large, weight, bias, stride)


def _up(
    impl: Impl, small: Tensor, weight: Tensor, bias: Tensor | None, stride: int, size: torch.Size
) -> Tensor:
    shape = small.shape[0], weight.shape[1], *size
    run = _implementation("up", impl, small, shape, weight.shape[0], stride)
    return run(small, weight, bias, stride, *size)


def _weight(impl: Impl, large: Tensor, small: Tensor, stride: int) -> Tensor:
    run = _implementation("weight", impl, large, large.shape, small.shape[1], stride)
    return run(large, small, stride)


def _implementation(
    operation: str, impl: Impl, tensor: Tensor, large: Sequence[int], channels: int, stride: int
) -> Callable[..., Tensor]:
    if impl == "native" or native_is_faster(operation, tensor.dtype, large, channels, stride):
        return op(f"conv_{operation}", "native", tensor)
    return _LIBRARY[operation]


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    transposed: bool = False,
    impl: Impl = "auto",
) -> Tensor:
    """A 4x4 convolution; for the backward it keeps what the gradients asked for need.

    Args:
        x: (B, I, H, W), float32, bfloat16, float16 or float64. Any strides do; channels-last ones
            need no copy. A convolution of stride 2 takes maps of 2x2 or more.
        weight: (O, I, 4, 4), or (I, O, 4, 4) if ``transposed``, of the same dtype; the same goes
            for its strides.
        bias: (O,) of the same dtype, or None.
        stride: 1 or 2.
        transposed: the transposed convolution: maps grow.
        impl: see ``dispatch.choose``. "auto" on the CPU takes, for each of the output and the two
            gradients, "native" or torch's own by ``native_is_faster``; elsewhere "reference".

    Returns:
        (B, O, H / stride, W / stride), rounded down, or (B, O, H * stride, W * stride);
        channels-last.

    Raises:
        ValueError: an argument is off: the message names it.
        RuntimeError: ``impl`` can't run here.
    """
    _check(x, weight, bias, stride, transposed)
    chosen = choose("conv", impl, x, native=_NATIVE_DTYPES, triton=())
    if chosen == "reference":
        return _channels_last(conv_reference(x, weight, bias, stride, transposed))
    return ConvFunction.apply(x, weight, bias, stride, transposed, impl)


def _check(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, transposed: bool) -> None:
    if x.dim() != 4 or x.numel() == 0:
        raise ValueError(f"conv: x is {tuple(x.shape)}; (B, I, H, W), not empty, works")
    if not x.is_floating_point():
        raise ValueError(f"conv: x is {x.dtype}; it must be a float of 16, 32 or 64 bits")
    if stride not in (1, 2):
        raise ValueError(f"conv: stride={stride}; 1 and 2 work")
    if stride == 2 and not transposed and min(x.shape[2:]) < 2:
        raise ValueError(f"conv: x is {tuple(x.shape)}; stride=2 takes maps of 2x2 or more")
    if weight.dim() != 4 or weight.shape[2:] != (_TAPS, _TAPS) or weight.numel() == 0:
        raise ValueError(f"conv: weight is {tuple(weight.shape)}; its kernel must be 4x4")
    inputs, outputs = weight.shape[:2] if transposed else (weight.shape[1], weight.shape[0])
    if x.shape[1] != inputs:
        raise ValueError(
            f"conv: weight is {tuple(weight.shape)} with transposed={transposed}: it takes "
            f"{inputs} channels, and x has {x.shape[1]}"
        )
    if bias is not None and bias.shape != (outputs,):
        raise ValueError(
            f"conv: bias is {tuple(bias.shape)}, and weight puts out {outputs} channels"
        )
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is None:
            continue
        if tensor.dtype != x.dtype:
            raise ValueError(f"conv: {name} is {tensor.dtype}, and x {x.dtype}")
        if tensor.device != x.device:
            raise ValueError(f"conv: {name} is on {tensor.device}, and x on {x.device}")
