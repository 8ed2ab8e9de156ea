"""The floor: what an iteration's arithmetic and Adam's traffic take at the machine's best rates.

    floor = FLOP / (rate of a large matrix product) + Adam's bytes / (bandwidth of a copy)

FLOP are counted from a preset's rows: matrix products and convolutions, two per multiply-add, the
padding's zeros included. Only what the method needs is counted: no gradient of an image that nobody
asked for, and Q on generated images alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from bench.harness import fastest
from fastinfogan.config import KERNEL, Layer, Shape, TrainConfig
from fastinfogan.kernels.linear import linear

# Per parameter: p, m, v and the gradient read; p, m, v written, all float32.
ADAM_BYTES = 4 * 4 + 3 * 4
HALF_COPY_BYTES = 2  # what the passes of the next iteration read

Product = tuple[int, Callable[[], object]]  # its floating-point operations, and how it is done


@dataclass(frozen=True)
class Work:
    """What one iteration can't do without.

    Attributes:
        flop: floating-point operations of all passes.
        parameters: of all networks.
    """

    flop: int
    parameters: int

    def adam_bytes(self, half: bool) -> int:
        """Bytes that both updates move, with a half-precision copy if ``half``."""
        return self.parameters * (ADAM_BYTES + HALF_COPY_BYTES * half)


@dataclass(frozen=True)
class Rates:
    """What the machine does at best.

    Attributes:
        flop_per_s: by dtype, e.g. "float32".
        bytes_per_s: of a copy, read and written.
    """

    flop_per_s: dict[str, float]
    bytes_per_s: float

    def floor(self, work: Work, dtype: str) -> float:
        """Seconds of an iteration whose passes run in ``dtype``."""
        moved = work.adam_bytes(half=dtype != "float32")
        return work.flop / self.flop_per_s[dtype] + moved / self.bytes_per_s


def layer_flop(row: Layer, before: Shape, after: Shape) -> int:
    """FLOP of a layer's forward pass on one image; each of its two gradients takes as many."""
    before = row.reads(before)
    if row.kind == "fc":  # at every position of a map the same but for what coordinates add
        return 2 * math.prod(before) * row.features
    _, height, width = before if row.kind == "upconv" else after  # the small map
    return 2 * KERNEL * KERNEL * before[0] * row.features * height * width


def work_of(config: TrainConfig) -> Work:
    """Count one iteration of a resolved configuration.

    Alternating, with G, D, Q the networks' forward passes (D: trunk and head; Q: what it has beside
    D): G and 2 D + Q forward, their weight gradients and, but for the images', input gradients;
    then G and D + Q forward, input gradients through D + Q, both gradients of G. Simultaneous: the
    same without the second forward passes. With consistency, Q's way (its trunk and head) once more
    on the copies with both gradients, and its head forward on the real images. With the contrastive
    regulariser its network on a pair for every two images: with weight gradients for D's update,
    with input gradients for G's. With the orthogonal one G once more, forward and both gradients.
    """
    rows = config.rows
    flop = {
        part: [layer_flop(row, before, after) for row, before, after in stack]
        for part, stack in rows.items()
    }
    separate = config.model.separate_q
    g = sum(flop["generator"])
    d = sum(flop["trunk"] + flop["d_head"])
    q = sum(flop["q_head"] + (flop["trunk"] if separate else []))
    first_d, first_g = flop["trunk"][0], flop["generator"][0]

    learn_d = 3 * (2 * d + q) - first_d * (3 if separate else 2)
    learn_g = (d + q) + 2 * g - first_g
    again = g + d + q if config.optim.update == "alternating" else 0
    looks = 0
    if config.optim.consistency > 0:
        trunk, head = sum(flop["trunk"]), sum(flop["q_head"])
        looks = 3 * (trunk + head) - first_d + head + (trunk if separate else 0)
    if config.optim.contrastive > 0:
        h, first = sum(flop["contrast"]), flop["contrast"][0]
        again_h = 2 * h - first if config.optim.update == "alternating" else 0
        looks += (3 * h + again_h) // 2
    if config.optim.orthogonal > 0:  # four images for every fourth
        looks += 3 * g - first_g
    stacks = [*rows.values(), *([rows["trunk"]] if separate else [])]
    parameters = sum(row.parameters(before) for stack in stacks for row, before, _ in stack)
    return Work((g + learn_d + learn_g + again + looks) * config.optim.batch_size, parameters)


class Meter:
    """Measures a machine's rates: of square matrix products, and of a copy too large for a cache.

    Others may have a part of the machine, so rates are measured as often as what is held against
    them, and beside it.

    Args:
        device: where.
        dtypes: of the products.
        small: use sizes that take no time: a check that it works.
    """

    def __init__(
        self, device: torch.device, dtypes: list[torch.dtype], small: bool = False
    ) -> None:
        self._device = device
        on_gpu = device.type == "cuda"
        sizes = (256,) if small else (4096, 8192) if on_gpu else (1024, 2048)
        self._products = {
            str(dtype).removeprefix("torch."): [
                product for n in sizes for product in _products(n, device, dtype)
            ]
            for dtype in dtypes
        }
        self._count = 2**20 if small else 2**28 if on_gpu else 2**26
        self._source, self._target = (torch.ones(self._count, device=device) for _ in range(2))

    def measure(self, runs: int = 2) -> Rates:
        """The best of several sizes and runs, now."""
        products = {
            dtype: max(flop / fastest(call, self._device, runs) for flop, call in ways)
            for dtype, ways in self._products.items()
        }
        copied = fastest(lambda: self._target.copy_(self._source), self._device, runs)
        return Rates(products, 2 * 4 * self._count / copied)


def _products(n: int, device: torch.device, dtype: torch.dtype) -> list[Product]:
    """Ways to multiply two matrices of n x n."""
    a, b = (torch.rand(n, n, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    ways: list[Callable[[], object]] = [lambda: torch.mm(a, b, out=out)]
    if device.type != "cuda":  # where a library doesn't use all of a processor, a layer may be ours
        ways.append(lambda: linear(a, b, None))
    return [(2 * n**3, way) for way in ways]
