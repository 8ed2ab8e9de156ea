"""What torch's operations launch on a GPU, and what that costs: rules of thumb, each in its place.

Products (cuBLAS) and convolutions (cuDNN, as products over patches) are cut into tiles, which the
SMs work off; a tile's rate is a share of the peak. Everything else moves its arguments and results
once, in one launch unless a rule says otherwise. Zeros that cuDNN fills in count as launches too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from bench.predict.h100 import FLOAT_FLOP, HALF_FLOP, MEMSET_NODE_S, SMS, START_S, cycles
from bench.predict.work import Work

# Rows and columns of a product's tile, and the share of the tensor cores' peak that large products
# get out of such tiles (assumed). In float32, without TF32, the tile hardly matters.
TILES = ((128, 256, 0.70), (128, 128, 0.65), (128, 64, 0.50), (64, 64, 0.40))
FLOAT_SHARE = 0.75
# Until a product's first tiles have arrived and its last are written: measured, of a library's and,
# in the median, of ours.
FILL_S = 2.0e-6
SPLITS = (1, 2, 4, 8, 16)  # parts of K: where there are few tiles, several SMs share one
SHORTEST_SPLIT = 256  # of K

# cuDNN, all of it measured. Its kernels reach the same share of the peak with every tile, but take
# longer to begin; by far the longest those for the gradient of a convolution's input with a stride,
# before which a memset has its node. Where it cuts along K, a kernel of one thread goes before.
CONV_SHARE = 0.70
CONV_FILL_S, STRIDED_FILL_S = 3.0e-6, 10.0e-6
WORKSPACE_S, SHORTEST_CONV_SPLIT = 7.0e-6, 8192
# Fewer channels are padded to 8: images and weights, each in a launch of its own that reorders or
# pads, and another that fills what it writes to with zeros. One channel is reordered more slowly.
FEWEST_CHANNELS = 8
PAD_BYTES_PER_S = {True: 0.4e12, False: 0.8e12}  # of one channel, of others
IMAGE_SHARE = 0.042  # of the peak, of the padded product
# Zeros are filled in before what is padded (not before a result), and for the parts of a sum.
FILLED = {"down": 2, "up": 1, "weight": 2}

# torch's kernels that follow shapes, not memory (a bias for every channel, a frame of zeros), and
# its sums over all but the channels: measured, bound by what they compute, not by memory.
SHAPED_BYTES_PER_S = 1.2e12
SUMMED_BYTES_PER_S, SUMMED_LEAST_S = 0.4e12, 4.0e-6

# They allocate, or are views that aren't marked as such.
FREE = {
    "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view",
    "_reshape_alias", "lift_fresh",
}  # fmt: skip
# Operations of several launches: a filling and a copy.
SEVERAL = {"slice_backward": 2, "select_backward": 2}


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
        return _product((a.shape[0], b.shape[1], a.shape[1]), (*args, out))
    if name == "convolution":
        return _convolution(args, out)
    if name == "convolution_backward":
        return _convolution_backward(args, out)
    # What a copy overwrites isn't read.
    tensors = _tensors((args[1:] if name == "copy_" else args, out))
    shape = "x".join(map(str, tensors[-1].shape)) if tensors else ""
    if name == "constant_pad_nd":
        moved = 2 * _moved(tensors[:1])
        copy = Work(name, shape, moved, issue_s=moved / SHAPED_BYTES_PER_S)
        return [Work("fill", shape, _moved([out])), copy]
    return [Work(name.rstrip("_"), shape, _moved(tensors))] * SEVERAL.get(name, 1)


# -- Products ------------------------------------------------------------------------------------


def _product(sizes: tuple[int, int, int], operands: Any) -> list[Work]:
    """A product, and the sum over the parts of K where it is cut."""
    tensors = _tensors(operands)
    m, n, k = sizes
    shape, flop = f"{m}x{n}x{k}", 2 * m * n * k

    def cut(split: int) -> list[Work]:
        seconds = _tiles_s(m, n, -(-k // split), split, _is_half(tensors[-1]))
        parts = 4 * m * n * split * (split > 1)  # float32, written and read again
        moved = _moved(tensors) + parts
        whole = Work("product", shape, moved, flop, arithmetic_s=seconds, last_s=FILL_S)
        return [whole] + [Work("product, sum of parts", shape, parts)] * (split > 1)

    return _shortest(map(cut, _splits(k, SHORTEST_SPLIT)))


def _splits(k: int, shortest: int) -> list[int]:
    return [s for s in SPLITS if s == 1 or k // s >= shortest]


def _shortest(choices: Iterable[list[Work]]) -> list[Work]:
    return min(choices, key=lambda works: sum(work.seconds for work in works))


def _tiles_s(m: int, n: int, k: int, split: int, half: bool, share: float | None = None) -> float:
    """Seconds of a product's tiles, in the best size of tile; ``share`` of the peak, if known."""
    found = []
    for rows, columns, usual in TILES:
        tiles = -(-m // rows) * -(-n // columns) * split
        rate = HALF_FLOP * (share or usual) if half else FLOAT_FLOP * FLOAT_SHARE
        found.append(-(-tiles // SMS) * cycles(2 * rows * columns * k / rate))
    return min(found)


# -- Convolutions --------------------------------------------------------------------------------


def _convolution(args: tuple[Any, ...], out: Tensor) -> list[Work]:
    x, weight, bias, stride, _, _, transposed = args[:7]
    small, large = (x, out) if transposed else (out, x)
    works = _conv("up" if transposed else "down", small, large, weight, stride[0], (x, weight, out))
    if bias is not None:  # in a pass of its own
        moved = 2 * _moved([out])
        shaped = moved / SHAPED_BYTES_PER_S
        works.append(Work("bias of a convolution", _map(out), moved, issue_s=shaped))
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
        moved = _moved([dy, out[2]])
        summed = SUMMED_LEAST_S + moved / SUMMED_BYTES_PER_S
        works.append(Work("gradient of a convolution's bias", _map(dy), moved, issue_s=summed))
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
    half, strided = _is_half(weight), kind == "up" and stride > 1
    image = min(small.shape[1], large.shape[1])
    fill = STRIDED_FILL_S if strided else CONV_FILL_S
    name = "convolution, image side" if image < FEWEST_CHANNELS else "convolution"
    before = [_memset("convolution, memset", shape)] if strided and half else []
    if image < FEWEST_CHANNELS and half:
        before += _padded(kind, small if small.shape[1] == image else large, weight)

    def cut(split: int) -> list[Work]:
        m, n, k = sizes
        if image < FEWEST_CHANNELS and not strided:
            seconds = cycles(2 * m * n * k / (HALF_FLOP * IMAGE_SHARE) / SMS)
        else:
            seconds = _tiles_s(m, n, -(-k // split), split, half, CONV_SHARE)
        moved = _moved(_tensors(operands))
        workspace = Work("convolution, workspace", shape, 0, last_s=WORKSPACE_S - START_S)
        whole = Work(name, shape, moved, flop, arithmetic_s=seconds, last_s=fill)
        return [workspace] * (split > 1) + [whole]

    if image < FEWEST_CHANNELS or strided:
        works = cut(1)
    else:
        works = _shortest(map(cut, _splits(sizes[2], SHORTEST_CONV_SPLIT)))
    if kind == "weight" and image < FEWEST_CHANNELS and half:
        works.append(Work("convolution, sum of parts", shape, 2 * _moved([weight])))
    return before + works


def _padded(kind: str, images: Tensor, weight: Tensor) -> list[Work]:
    """The paddings of channels that a convolution of few channels asks for."""
    rate = PAD_BYTES_PER_S[images.shape[1] == 1]
    works = []
    for tensor in (images, weight):
        moved = _moved([tensor]) // images.shape[1] * (images.shape[1] + FEWEST_CHANNELS)
        works.append(Work("padding of channels", _map(tensor), moved, issue_s=moved / rate))
    filled = [Work("zeros for padding", _map(weight), FEWEST_CHANNELS * _moved([weight]))]
    return works + filled * FILLED[kind]


def _memset(kernel: str, shape: str) -> Work:
    """A node that fills a few bytes."""
    return Work(kernel, shape, 0, node_s=MEMSET_NODE_S)


# -- Tensors -------------------------------------------------------------------------------------


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _moved(tensors: list[Tensor]) -> int:
    """Bytes; of an expanded tensor those that are there."""
    return sum(
        min(t.numel() * t.element_size(), t.untyped_storage().nbytes() or 0) for t in tensors
    )


def _is_half(tensor: Tensor) -> bool:
    return tensor.dtype in (torch.bfloat16, torch.float16)


def _map(maps: Tensor) -> str:
    return "x".join(map(str, maps.shape))
