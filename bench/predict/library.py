"""What torch's operations launch on a GPU, and what that costs: rules of thumb, each in its place.

Products (cuBLAS) and convolutions (cuDNN, as products over patches) are cut into tiles, which the
SMs work off; a tile's rate is a share of the peak. Everything else moves its arguments and results
once, in one launch unless a rule says otherwise.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from bench.predict.h100 import FLOAT_FLOP, HALF_FLOP, SMS, cycles
from bench.predict.work import Work

# Rows and columns of a product's tile, and the share of the tensor cores' peak that large products
# get out of such tiles (assumed). In float32, without TF32, the tile hardly matters.
TILES = ((128, 256, 0.70), (128, 128, 0.65), (128, 64, 0.50), (64, 64, 0.40))
FLOAT_SHARE = 0.75
FILL_S = 1.0e-6  # until a product's first tiles have arrived and its last are written, assumed
SPLITS = (1, 2, 4, 8, 16)  # parts of K: where there are few tiles, several SMs share one
SHORTEST_SPLIT = 256  # of K

# cuDNN pads fewer channels to 8, in a launch of their own, and its deterministic kernels for such
# maps reach little of the peak (assumed).
FEWEST_CHANNELS, IMAGE_SHARE = 8, 0.05
CONV_SHARE = 0.8  # of what a product of the same sizes reaches, assumed

# They allocate, or are views that aren't marked as such.
FREE = {
    "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view",
    "_reshape_alias", "lift_fresh",
}  # fmt: skip
# Operations of several launches: a filling and a copy.
SEVERAL = {"constant_pad_nd": 2, "slice_backward": 2, "select_backward": 2}


def launches_of(function: Any, args: tuple[Any, ...], out: Any) -> list[Work]:
    """What a call launches.

    Args:
        function: an operation of ``torch.ops``.
        args: its positional arguments, tensors with or without data.
        out: what it returned.
    """
    name = function._schema.name.removeprefix("aten::")
    if name in FREE or function.is_view:
        return []
    if name in ("mm", "addmm"):
        a, b = args[-2:]
        return _product("product", (a.shape[0], b.shape[1], a.shape[1]), (*args, out))
    if name == "convolution":
        return _convolution(args, out)
    if name == "convolution_backward":
        return _convolution_backward(args, out)
    # What a copy overwrites isn't read.
    tensors = _tensors((args[1:] if name == "copy_" else args, out))
    shape = "x".join(map(str, tensors[-1].shape)) if tensors else ""
    count = SEVERAL.get(name, 1)
    return [Work(name.rstrip("_"), shape, _moved(tensors))] * count


# -- Products ------------------------------------------------------------------------------------


def _product(
    kernel: str,
    sizes: tuple[int, int, int],
    operands: Any,
    *,
    share: float = 1.0,
    shape: str = "",
) -> list[Work]:
    """A product, and the sum over the parts of K where it is cut."""
    tensors = _tensors(operands)
    half = tensors[-1].dtype in (torch.bfloat16, torch.float16)
    m, n, k = sizes
    shape = shape or f"{m}x{n}x{k}"

    def cut(split: int) -> list[Work]:
        seconds = FILL_S + _tiles_s(m, n, -(-k // split), split, half) / share
        parts = 4 * m * n * split * (split > 1)  # float32, written and read again
        whole = [Work(kernel, shape, _moved(tensors) + parts, 2 * m * n * k, seconds)]
        return whole + [Work(f"{kernel}, sum of parts", shape, parts)] * (split > 1)

    splits = [s for s in SPLITS if s == 1 or k // s >= SHORTEST_SPLIT]
    return min(map(cut, splits), key=lambda works: sum(work.seconds for work in works))


def _tiles_s(m: int, n: int, k: int, split: int, half: bool) -> float:
    """Seconds of a product's tiles, in the best size of tile."""
    found = []
    for rows, columns, share in TILES:
        tiles = -(-m // rows) * -(-n // columns) * split
        rate = HALF_FLOP * share if half else FLOAT_FLOP * FLOAT_SHARE
        found.append(-(-tiles // SMS) * cycles(2 * rows * columns * k / rate))
    return min(found)


# -- Convolutions --------------------------------------------------------------------------------


def _convolution(args: tuple[Any, ...], out: Tensor) -> list[Work]:
    x, weight, bias, stride, _, _, transposed = args[:7]
    small, large = (x, out) if transposed else (out, x)
    works = _conv("up" if transposed else "down", small, large, weight, stride[0], (x, weight, out))
    if bias is not None:  # in a pass of its own
        works.append(Work("bias of a convolution", _map(out), 2 * _moved([out])))
    return works


def _convolution_backward(args: tuple[Any, ...], out: tuple[Tensor | None, ...]) -> list[Work]:
    dy, x, weight, _, stride, _, _, transposed = args[:8]
    small, large = (x, dy) if transposed else (dy, x)
    works = []
    for kind, gradient, read in (
        ("down" if transposed else "up", out[0], (dy, weight)),
        ("weight", out[1], (dy, x)),
    ):
        if gradient is not None:
            works += _conv(kind, small, large, weight, stride[0], (*read, gradient))
    if out[2] is not None:
        works.append(Work("gradient of a convolution's bias", _map(dy), _moved([dy, out[2]])))
    return works


def _conv(
    kind: str, small: Tensor, large: Tensor, weight: Tensor, stride: int, operands: Any
) -> list[Work]:
    """One of the three operations of ``kernels/conv``, as a product over patches."""
    taps = weight.shape[2] * weight.shape[3]
    pixels = small.shape[0] * small.shape[2] * small.shape[3]
    few, many = (max(FEWEST_CHANNELS, maps.shape[1]) for maps in (large, small))
    sizes = {
        "down": (pixels, many, taps * few),
        # A stride cuts the large map into phases, which see a part of the taps each.
        "up": (pixels * stride**2, few, many * taps // stride**2),
        "weight": (many, taps * few, pixels),
    }[kind]
    shape = f"{kind} {_map(large)}, {_map(small)}"
    flop = 2 * taps * pixels * small.shape[1] * large.shape[1]
    images = [maps for maps in (small, large) if maps.shape[1] < FEWEST_CHANNELS]
    if not images:
        return _product("convolution", sizes, operands, share=CONV_SHARE, shape=shape)
    half = weight.dtype != torch.float32
    rate = HALF_FLOP * IMAGE_SHARE if half else FLOAT_FLOP * FLOAT_SHARE * CONV_SHARE
    seconds = FILL_S + cycles(2 * math.prod(sizes) / rate / SMS)
    moved = _moved(_tensors(operands))
    padded = [
        Work("padding of channels", _map(maps), _moved([maps]) * (1 + FEWEST_CHANNELS))
        for maps in images
        if half
    ]
    return [*padded, Work("convolution, image side", shape, moved, flop, seconds)]


# -- Tensors -------------------------------------------------------------------------------------


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _moved(tensors: list[Tensor]) -> int:
    """Bytes; of an expanded tensor those that are there."""
    return sum(
        min(t.numel() * t.element_size(), t.untyped_storage().nbytes() or 0) for t in tensors
    )


def _map(maps: Tensor) -> str:
    return "x".join(map(str, maps.shape))
