"""Batches of images: which rows an iteration sees, and their conversion from uint8.

Epoch e visits the N images in the order of a permutation computed on the fly: a Feistel network of
four rounds on the smallest even number of bits that holds N, keyed by (seed, e), walked until it
lands below N (cycle walking; Black and Rogaway 2002, "Ciphers with arbitrary finite domains",
section 3). Position p of a run is image perm_{p div N}(p mod N): every image once an epoch, no
shuffled list kept anywhere, and a run resumes by remembering p.

With flips, position p is mirrored where the top bit of the first word of Philox(seed, counter =
(p low, p high, 0, stream)) is 1.

A byte v becomes low + v (high - low) / 255, in float32 (float64 for a float64 result), rounded once
to the result's dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fastinfogan.kernels.dispatch import NATIVE, NATIVE_DTYPES, Impl, choose, op, register
from fastinfogan.kernels.philox import (
    STREAM_FLIP,
    STREAM_ORDER,
    halves,
    philox,
    philox_reference,
)
from fastinfogan.kernels.triton_module import jit, launch, tl

_FEISTEL_ROUNDS = 4

Range = tuple[float, float]


def order_reference(positions: Tensor, count: int, seed: int | Tensor) -> Tensor:
    """Image index of each position of a run.

    Args:
        positions: int64, any shape, 0 or more.
        count: N, the number of images, 1 or more.
        seed: the key, an integer or an int64 tensor of shape (1,).

    Returns:
        int64 indices in [0, N), of the shape of ``positions``.
    """
    half_bits = _half_bits(count)
    epoch = positions // count
    index = _feistel_reference(positions % count, epoch, half_bits, seed)
    while (outside := index >= count).any():
        walked = _feistel_reference(index, epoch, half_bits, seed)
        index = torch.where(outside, walked, index)
    return index


def _half_bits(count: int) -> int:
    """Half the bits of the smallest domain that a Feistel network can have and that holds count."""
    return max(1, -(-(count - 1).bit_length() // 2))


def _feistel_reference(index: Tensor, epoch: Tensor, half_bits: int, seed: int | Tensor) -> Tensor:
    mask = (1 << half_bits) - 1
    left, right = index >> half_bits, index & mask
    stream = torch.full_like(index, STREAM_ORDER)
    for round_ in range(_FEISTEL_ROUNDS):
        keyed = (right << 2) + round_  # half_bits <= 30: fits a 32-bit word
        words = philox_reference(seed, keyed, *halves(epoch), stream)
        left, right = right, left ^ (words[0] & mask)
    return (left << half_bits) | right


def gather_reference(
    images: Tensor,
    indices: Tensor,
    output_range: Range = (0.0, 1.0),
    dtype: torch.dtype = torch.float32,
    flip: Tensor | None = None,
) -> Tensor:
    """The images of a batch, as floats.

    Args:
        images: (N, H, W, C) uint8.
        indices: (B,) int64 on the same device.
        output_range: what 0 and 255 become.
        dtype: a float type.
        flip: (B,) bool or uint8: which images to mirror left to right; None is none of them.

    Returns:
        (B, C, H, W) of ``dtype`` in channels-last memory format; NaN where an index is no image's.
    """
    outside = (indices < 0) | (indices >= len(images))
    rows = images[indices.clamp(0, len(images) - 1)]
    if flip is not None:
        rows = torch.where(flip.bool().view(-1, 1, 1, 1), rows.flip(2), rows)
    return to_float(rows, output_range, dtype).masked_fill_(outside.view(-1, 1, 1, 1), math.nan)


def draw_reference(
    images: Tensor,
    batch: int,
    seed: int | Tensor,
    position: int | Tensor,
    output_range: Range = (0.0, 1.0),
    dtype: torch.dtype = torch.float32,
    flip: bool = False,
) -> Tensor:
    """The images of positions ``position`` to ``position + batch - 1``, as floats."""
    positions = position + torch.arange(batch, device=images.device)
    indices = order_reference(positions, len(images), seed)
    mirrored = None
    if flip:
        zero, stream = torch.zeros_like(positions), torch.full_like(positions, STREAM_FLIP)
        mirrored = philox_reference(seed, *halves(positions), zero, stream)[0] >= 2**31
    return gather_reference(images, indices, output_range, dtype, mirrored)


def to_float(images: Tensor, output_range: Range, dtype: torch.dtype = torch.float32) -> Tensor:
    """(B, H, W, C) uint8 -> (B, C, H, W) floats, channels-last, 0 and 255 at the range's ends."""
    low, high = output_range
    computed = torch.float64 if dtype == torch.float64 else torch.float32
    result = images.permute(0, 3, 1, 2).to(computed).mul_((high - low) / 255.0).add_(low)
    return result.to(dtype)


# -- Triton --------------------------------------------------------------------------------------


@jit
def _feistel(index, epoch, half_bits, seed, STREAM: tl.constexpr, ROUNDS: tl.constexpr):
    mask = (1 << half_bits) - 1
    left, right = index >> half_bits, index & mask
    for round_ in tl.static_range(ROUNDS):
        word, _, _, _ = philox(seed, (right << 2) + round_, epoch, epoch >> 32, STREAM)
        left, right = right, left ^ (word.to(tl.int64) & mask)
    return (left << half_bits) | right


@jit
def _image_at(position, count, half_bits, seed, STREAM: tl.constexpr, ROUNDS: tl.constexpr):
    """Index of the image at a position (scalars)."""
    epoch, index = position // count, position % count
    if index < 0:  # C's remainder of a negative number
        epoch -= 1
        index += count
    index = _feistel(index, epoch, half_bits, seed, STREAM, ROUNDS)
    while index >= count:
        index = _feistel(index, epoch, half_bits, seed, STREAM, ROUNDS)
    return index


@jit
def _copy_image(
    result_ptr,  # (batch, height, width, channels), any float
    images_ptr,  # (count, height, width, channels) uint8
    index,
    mirrored,
    count,
    size,
    width,
    channels,
    LOW: tl.constexpr,
    SCALE: tl.constexpr,
    FLIP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Pixels of block program_id(1) of image ``index`` to row program_id(0)."""
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    valid = (index >= 0) & (index < count)
    source = at
    if FLIP:
        x = at // channels % width
        source = tl.where(mirrored, at + (width - 1 - 2 * x) * channels, at)
    byte = tl.load(images_ptr + index * size + source, mask=at < tl.where(valid, size, 0), other=0)
    dtype: tl.constexpr = result_ptr.dtype.element_ty
    if dtype == tl.float64:
        value = byte.to(tl.float64) * SCALE + LOW
    else:
        value = byte.to(tl.float32) * SCALE + LOW
    value = tl.where(valid, value, float("nan"))
    row = tl.program_id(0).to(tl.int64)
    tl.store(result_ptr + row * size + at, value.to(dtype), mask=at < size)


@jit
def _gather_kernel(
    result_ptr,  # (batch, height, width, channels), any float
    images_ptr,  # (count, height, width, channels) uint8
    indices_ptr,  # (batch,) int64
    flip_ptr,  # (batch,) uint8, or None
    count,
    size,
    width,
    channels,
    LOW: tl.constexpr,
    SCALE: tl.constexpr,
    FLIP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    index = tl.load(indices_ptr + tl.program_id(0))
    mirrored = False
    if FLIP:
        mirrored = tl.load(flip_ptr + tl.program_id(0)) != 0
    _copy_image(
        result_ptr, images_ptr, index, mirrored, count, size, width, channels,
        LOW, SCALE, FLIP, BLOCK,
    )  # fmt: skip


@jit
def _draw_kernel(
    result_ptr,  # (batch, height, width, channels), any float
    images_ptr,  # (count, height, width, channels) uint8
    seed_ptr,  # (1,) int64
    position_ptr,  # (1,) int64
    shift,
    half_bits,
    count,
    size,
    width,
    channels,
    STREAM_ORDER: tl.constexpr,
    STREAM_FLIP: tl.constexpr,
    ROUNDS: tl.constexpr,
    LOW: tl.constexpr,
    SCALE: tl.constexpr,
    FLIP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    seed = tl.load(seed_ptr)
    position = tl.load(position_ptr) + shift + tl.program_id(0)
    index = _image_at(position, count, half_bits, seed, STREAM_ORDER, ROUNDS)
    mirrored = False
    if FLIP:
        word, _, _, _ = philox(seed, position, position >> 32, position * 0, STREAM_FLIP)
        mirrored = (word >> 31) != 0
    _copy_image(
        result_ptr, images_ptr, index, mirrored, count, size, width, channels,
        LOW, SCALE, FLIP, BLOCK,
    )  # fmt: skip


@jit
def _order_kernel(
    indices_ptr,  # (n,) int64
    positions_ptr,  # (n,) int64
    seed_ptr,  # (1,) int64
    half_bits,
    count,
    STREAM: tl.constexpr,
    ROUNDS: tl.constexpr,
):
    at = tl.program_id(0)
    position, seed = tl.load(positions_ptr + at), tl.load(seed_ptr)
    tl.store(indices_ptr + at, _image_at(position, count, half_bits, seed, STREAM, ROUNDS))


# -- Launchers -----------------------------------------------------------------------------------

_BLOCK = 1024  # pixels of a program: 8 in each of 128 threads
_DTYPES = (*NATIVE_DTYPES, torch.float16)


def _empty(images: Tensor, batch: int, dtype: torch.dtype) -> Tensor:
    return images.new_empty((batch, *images.shape[1:]), dtype=dtype).permute(0, 3, 1, 2)


def _triton_gather(
    images: Tensor,
    indices: Tensor,
    flip: Tensor | None,
    low: float,
    high: float,
    dtype: torch.dtype,
) -> Tensor:
    count, height, width, channels = images.shape
    size, batch = height * width * channels, len(indices)
    result = _empty(images, batch, dtype)
    launch(
        _gather_kernel,
        (batch, -(-size // _BLOCK)),
        *(result, images, indices, flip, count, size, width, channels),
        LOW=low,
        SCALE=(high - low) / 255.0,
        FLIP=flip is not None,
        BLOCK=_BLOCK,
        num_warps=4,
    )
    return result


def _triton_draw(
    images: Tensor,
    seed: Tensor,
    position: Tensor,
    shift: int,
    batch: int,
    flip: bool,
    low: float,
    high: float,
    dtype: torch.dtype,
) -> Tensor:
    count, height, width, channels = images.shape
    size = height * width * channels
    result = _empty(images, batch, dtype)
    launch(
        _draw_kernel,
        (batch, -(-size // _BLOCK)),
        *(result, images, seed, position, shift, _half_bits(count)),
        *(count, size, width, channels),
        STREAM_ORDER=STREAM_ORDER,
        STREAM_FLIP=STREAM_FLIP,
        ROUNDS=_FEISTEL_ROUNDS,
        LOW=low,
        SCALE=(high - low) / 255.0,
        FLIP=flip,
        BLOCK=_BLOCK,
        num_warps=4,
    )
    return result


def _triton_order(positions: Tensor, count: int, seed: Tensor) -> Tensor:
    indices = torch.empty_like(positions)
    launch(
        _order_kernel,
        (positions.numel(),),
        *(indices, positions, seed, _half_bits(count), count),
        STREAM=STREAM_ORDER,
        ROUNDS=_FEISTEL_ROUNDS,
        num_warps=1,
    )
    return indices


def _native_gather(
    images: Tensor,
    indices: Tensor,
    flip: Tensor | None,
    low: float,
    high: float,
    dtype: torch.dtype,
) -> Tensor:
    stored = dtype if dtype in NATIVE_DTYPES else torch.float32
    result = _empty(images, len(indices), stored)
    outside = NATIVE.gather(
        *(NATIVE_DTYPES[stored], images.data_ptr(), *images.shape, indices.data_ptr()),
        *(0 if flip is None else flip.data_ptr(), len(indices)),
        *(low, (high - low) / 255.0, result.data_ptr()),
    )
    if outside >= 0:
        _refuse_index(images, indices, outside)
    return result.to(dtype)


def _refuse_index(images: Tensor, indices: Tensor, row: int) -> None:
    raise ValueError(
        f"gather: indices[{row}] is {indices[row].item()}; 0 to {len(images) - 1} work"
    )


def _native_draw(
    images: Tensor,
    seed: Tensor,
    position: Tensor,
    shift: int,
    batch: int,
    flip: bool,
    low: float,
    high: float,
    dtype: torch.dtype,
) -> Tensor:
    stored = dtype if dtype in NATIVE_DTYPES else torch.float32
    result = _empty(images, batch, stored)
    NATIVE.draw(
        *(NATIVE_DTYPES[stored], images.data_ptr(), *images.shape, _half_bits(len(images))),
        *(seed.data_ptr(), position.data_ptr(), shift, flip, batch),
        *(low, (high - low) / 255.0, result.data_ptr()),
    )
    return result.to(dtype)


def _native_order(positions: Tensor, count: int, seed: Tensor) -> Tensor:
    indices = torch.empty_like(positions)
    NATIVE.order(
        *(positions.data_ptr(), positions.numel(), count, _half_bits(count)),
        *(seed.data_ptr(), indices.data_ptr()),
    )
    return indices


# -- Registration --------------------------------------------------------------------------------


def _fake_gather(impl: Impl) -> Callable[..., Tensor]:
    def fake(images, indices, flip, low, high, dtype):
        return _empty(images, indices.shape[0], dtype)

    return fake


def _fake_draw(impl: Impl) -> Callable[..., Tensor]:
    def fake(images, seed, position, shift, batch, flip, low, high, dtype):
        return _empty(images, batch, dtype)

    return fake


def _fake_order(impl: Impl) -> Callable[..., Tensor]:
    return lambda positions, count, seed: torch.empty_like(positions)


register(
    "gather(Tensor images, Tensor indices, Tensor? flip, float low, float high, ScalarType dtype) "
    "-> Tensor",
    native=_native_gather,
    triton=_triton_gather,
    fake=_fake_gather,
)
register(
    "draw(Tensor images, Tensor seed, Tensor position, SymInt shift, SymInt batch, bool flip, "
    "float low, float high, ScalarType dtype) -> Tensor",
    native=_native_draw,
    triton=_triton_draw,
    fake=_fake_draw,
)
register(
    "order(Tensor positions, int count, Tensor seed) -> Tensor",
    native=_native_order,
    triton=_triton_order,
    fake=_fake_order,
)


# -- The ops -------------------------------------------------------------------------------------


def gather(
    images: Tensor,
    indices: Tensor,
    *,
    output_range: Range = (0.0, 1.0),
    dtype: torch.dtype = torch.float32,
    flip: Tensor | None = None,
    impl: Impl = "auto",
) -> Tensor:
    """Images by index, as floats.

    Args:
        images: (N, H, W, C) uint8, contiguous.
        indices: (B,) int64 on the same device, contiguous, 0 to N - 1. On a GPU nobody can look
            without waiting for it: there a row of another index is NaN.
        output_range: what 0 and 255 become.
        dtype: float32, bfloat16, float16 or float64.
        flip: (B,) bool or uint8 on the same device: which images to mirror left to right.
        impl: see ``dispatch.choose``.

    Returns:
        (B, C, H, W) of ``dtype``, channels-last.

    Raises:
        ValueError: an argument is off: the message names it.
        RuntimeError: ``impl`` can't run here.
    """
    _check("gather", images, output_range, dtype)
    _check_vector("gather", "indices", indices, images, (torch.int64,))
    if flip is not None:
        _check_vector("gather", "flip", flip, images, (torch.bool, torch.uint8))
        if flip.shape != indices.shape:
            raise ValueError(f"gather: flip has {len(flip)} rows, and indices {len(indices)}")
        flip = flip.view(torch.uint8)
    impl = choose("gather", impl, images, native=(torch.uint8,), triton=(torch.uint8,))
    if impl == "reference":
        if images.device.type == "cpu" and not torch.compiler.is_compiling():
            outside = ((indices < 0) | (indices >= len(images))).nonzero()
            if len(outside):
                _refuse_index(images, indices, int(outside[0]))
        return gather_reference(images, indices, output_range, dtype, flip)
    return op("gather", impl, images)(images, indices, flip, *map(float, output_range), dtype)


def draw(
    images: Tensor,
    batch: int,
    seed: Tensor,
    position: Tensor,
    *,
    shift: int = 0,
    output_range: Range = (0.0, 1.0),
    dtype: torch.dtype = torch.float32,
    flip: bool = False,
    impl: Impl = "auto",
) -> Tensor:
    """The images of positions ``position + shift`` to ``position + shift + batch - 1`` of a run.

    The host reads neither seed nor position, so that a CUDA graph draws the batch that they name
    when it is replayed.

    Args:
        images: (N, H, W, C) uint8, contiguous.
        batch: images to draw, 1 or more.
        seed, position: int64 of shape (1,) on the same device; meant to be 0 or more, which isn't
            checked (a negative position lies in the epochs before the first).
        shift: added to the position: a rank's share.
        output_range: what 0 and 255 become.
        dtype: float32, bfloat16, float16 or float64.
        flip: mirror every other image left to right, as a coin decides that the seed and the
            position toss.
        impl: see ``dispatch.choose``.

    Returns:
        (B, C, H, W) of ``dtype``, channels-last.

    Raises:
        ValueError: an argument is off: the message names it.
        RuntimeError: ``impl`` can't run here.
    """
    _check("draw", images, output_range, dtype)
    if batch < 1:
        raise ValueError(f"draw: batch={batch}; 1 or more work")
    for name, tensor in (("seed", seed), ("position", position)):
        _check_number("draw", name, tensor, images)
    impl = choose("draw", impl, images, native=(torch.uint8,), triton=(torch.uint8,))
    if impl == "reference":
        return draw_reference(images, batch, seed, position + shift, output_range, dtype, flip)
    return op("draw", impl, images)(
        images, seed, position, shift, batch, flip, *map(float, output_range), dtype
    )


def order(positions: Tensor, count: int, seed: Tensor, impl: Impl = "auto") -> Tensor:
    """The image that each position of a run shows: what ``draw`` draws.

    Args:
        positions: int64, any shape but empty.
        count: N, the number of images, 1 or more.
        seed: int64 of shape (1,) on the same device.
        impl: see ``dispatch.choose``.

    Returns:
        int64 indices in [0, N), of the shape of ``positions``.

    Raises:
        ValueError: an argument is off: the message names it.
        RuntimeError: ``impl`` can't run here.
    """
    if positions.dtype != torch.int64 or positions.numel() == 0:
        raise ValueError(
            f"order: positions is {positions.dtype} of shape {tuple(positions.shape)}; "
            "it must be torch.int64 and not empty"
        )
    if count < 1:
        raise ValueError(f"order: count={count}; 1 or more work")
    _check_number("order", "seed", seed, positions)
    impl = choose("order", impl, positions, native=(torch.int64,), triton=(torch.int64,))
    if impl == "reference":
        return order_reference(positions, count, seed)
    return op("order", impl, positions)(positions.contiguous(), count, seed)


def _check(name: str, images: Tensor, output_range: Range, dtype: torch.dtype) -> None:
    if images.dim() != 4 or images.dtype != torch.uint8 or images.numel() == 0:
        raise ValueError(
            f"{name}: images is {images.dtype} of shape {tuple(images.shape)}; "
            "it must be torch.uint8 of shape (N, H, W, C), not empty"
        )
    if not images.is_contiguous():
        raise ValueError(f"{name}: images has strides {images.stride()}; it must be contiguous")
    if len(output_range) != 2 or not -math.inf < output_range[0] < output_range[1] < math.inf:
        raise ValueError(f"{name}: output_range={output_range}; two rising finite numbers work")
    if dtype not in _DTYPES:
        raise ValueError(f"{name}: dtype={dtype}; a float of 16, 32 or 64 bits works")


def _check_vector(
    name: str, argument: str, tensor: Tensor, images: Tensor, dtypes: tuple[torch.dtype, ...]
) -> None:
    if tensor.dtype not in dtypes or tensor.dim() != 1 or tensor.numel() == 0:
        raise ValueError(
            f"{name}: {argument} is {tensor.dtype} of shape {tuple(tensor.shape)}; it must be "
            f"{' or '.join(map(str, dtypes))} of shape (B,), not empty"
        )
    if tensor.device != images.device:
        raise ValueError(f"{name}: {argument} is on {tensor.device}, and images on {images.device}")
    if not tensor.is_contiguous():
        raise ValueError(f"{name}: {argument} has stride {tensor.stride(0)}; it must have 1")


def _check_number(name: str, argument: str, tensor: Tensor, other: Tensor) -> None:
    if tensor.dtype != torch.int64 or tensor.shape != (1,):
        raise ValueError(
            f"{name}: {argument} is {tensor.dtype} of shape {tuple(tensor.shape)}; "
            "it must be torch.int64 of shape (1,)"
        )
    if tensor.device != other.device:
        raise ValueError(f"{name}: {argument} is on {tensor.device}; {other.device} works")
