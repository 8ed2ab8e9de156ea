"""What warp's tests share: shapes, maps, inputs, and where a map's places are."""

from __future__ import annotations

import torch

from fastinfogan.kernels.jitter import MOST
from fastinfogan.kernels.warp import draw_maps_reference, warp

# Why each shape is here.
SHAPES = {
    "one channel": (5, 1, 9, 9),
    "three channels, wide": (4, 3, 5, 11),
    "three channels, tall": (3, 3, 12, 4),
    "any number of channels, several blocks": (2, 5, 10, 8),
    "one row": (3, 1, 1, 6),
    "one column": (3, 2, 6, 1),
    "one pixel": (2, 1, 1, 1),
    "wider than the native kernel takes at once": (2, 1, 2, 70),
}
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0)
OUTPUT_RANGE = (-1.0, 1.0)


def some_maps(batch, seed=0):
    """As far from the identity as a Jitter may be."""
    numbers = (torch.tensor([n]) for n in (seed, 0))
    return draw_maps_reference(MOST, batch, *numbers, 4, OUTPUT_RANGE)


def inputs(shape, dtype, seed=0):
    """x and dy as rounded to ``dtype``, maps and fill; on the CPU."""
    random = torch.Generator().manual_seed(seed)
    x = (2.0 * torch.rand(shape, generator=random) - 1.0).to(dtype)
    dy = torch.randn(shape, generator=random).to(dtype)
    fill = 2.0 * torch.rand(shape[1], generator=random) - 1.0
    return x, some_maps(shape[0], seed), fill, dy


def outputs(tensors, impl, device="cpu", dtype=None, output_range=OUTPUT_RANGE):
    """y and dx; x and dy are taken in ``dtype`` if given."""
    x, maps, fill, dy = (t.to(device) for t in tensors)
    if dtype is not None:
        x, dy = x.to(dtype), dy.to(dtype)
    x = x.detach().clone().requires_grad_()
    y = warp(x, maps, fill, output_range, impl=impl)
    return y.detach(), torch.autograd.grad(y, x, dy)[0]


def condition(x):
    """A coordinate of up to the image's side is off by its rounding; that times a pixel's step."""
    side = max(x.shape[2:])
    steps = [x.double().diff(dim=d).abs().max().item() for d in (2, 3) if x.shape[d] > 1]
    return max(1.0, side * max(steps, default=0.0) / x.double().abs().max().item())


def places(map_, height, width):
    """Column and row, (height, width) each, of the places that a map shows; float64."""
    a, b, tx, c, d, ty, _, _ = map_.double()
    x = (2 * torch.arange(width) + 1).double().view(1, -1) / width - 1
    y = (2 * torch.arange(height) + 1).double().view(-1, 1) / height - 1
    return ((a * x + b * y + tx + 1) * width - 1) / 2, ((c * x + d * y + ty + 1) * height - 1) / 2
