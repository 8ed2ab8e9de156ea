"""What bn_act's tests share: the shapes and modes, the inputs and what comes out."""

from __future__ import annotations

import torch
from kernel_cases import accumulator

from fastinfogan.kernels.bn_act import bn_act

# Why each shape is here.
SHAPES = {
    "fewer channels than a vector": (6, 5),
    "full vectors, single ones and a tail": (10, 133),
    "more channels than a native strip, few rows": (4, 530),
    "odd in every dimension": (4, 7, 3, 5),
    "full blocks of channels only": (4, 128, 4, 4),
    "one channel: both memory formats at once": (4, 1, 5, 5),
    "1x1 maps: both memory formats at once": (4, 20, 1, 1),
    "two rows a group: the fewest that train": (4, 3, 1, 1),
    "an odd number of rows, fewer than a tile": (10, 33, 5, 5),
    "several parts of the rows, the last one short": (12, 17, 7, 10),
}
MODES = {
    "relu": dict(slope=0.0),
    "leaky, two groups": dict(slope=0.1, groups=2),
    "no activation": dict(slope=1.0),
    "eval": dict(slope=0.1, training=False),
    "no running statistics": dict(slope=0.1, groups=2, running=False),
}
NAMES = ("y", "dx", "dweight", "dbias", "running_mean", "running_var")


def inputs(shape, dtype, seed=0, scale=2.0, mean=3.0):
    """x, weight, bias, running_mean, running_var, dy: as rounded to ``dtype``, on the CPU."""
    random = torch.Generator().manual_seed(seed)
    channels = shape[1]

    def draw(*size):
        return torch.randn(*size, generator=random)

    x, dy = (draw(*shape) * scale + mean).to(dtype), draw(*shape).to(dtype)
    affine = [draw(channels), draw(channels), draw(channels), 0.5 + draw(channels).abs()]
    return [x, *(t.to(accumulator(dtype)) for t in affine), dy]


def outputs(tensors, impl, device="cpu", dtype=None, running=True, **mode):
    """The six results by the order of NAMES, in ``dtype`` if given."""
    tensors = [t.to(device, copy=True) for t in tensors]
    if dtype is not None:
        tensors = [t.to(dtype) for t in tensors]
    x, weight, bias, running_mean, running_var, dy = tensors
    for t in (x, weight, bias):
        t.requires_grad_()
    statistics = (running_mean, running_var) if running else (None, None)
    y = bn_act(x, weight, bias, *statistics, impl=impl, **mode)
    grads = torch.autograd.grad(y, (x, weight, bias), dy)
    return [y.detach(), *grads, *statistics]
