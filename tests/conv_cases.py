"""What conv's tests share: the shapes, the inputs and what comes out."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import assert_as_close_as
from tolerances import SUMMATION_64

from fastinfogan.kernels.conv import conv, native

HALF = pytest.mark.skipif(not native.HALF, reason="this CPU has no products of bfloat16")

# (batch, inputs, height, width), outputs, stride, transposed: why each is here.
CASES = {
    "conv, grey images": ((4, 1, 8, 8), 5, 2, False),
    "conv, colour images": ((4, 3, 8, 6), 5, 2, False),
    "conv, odd sizes: a row and a column that nothing sees": ((3, 5, 7, 9), 4, 2, False),
    "conv, one image, full vectors and a tail": ((1, 35, 4, 4), 33, 2, False),
    "conv, the smallest map": ((2, 3, 2, 2), 4, 2, False),
    "conv, 3x3: the same output as 2x2": ((2, 3, 3, 3), 4, 2, False),
    "conv, one channel out": ((2, 3, 4, 4), 1, 2, False),
    "conv, stride 1": ((2, 5, 5, 6), 7, 1, False),
    "conv, stride 1, grey": ((2, 1, 5, 4), 3, 1, False),
    "conv, stride 1, 1x1 maps: both memory formats at once": ((3, 4, 1, 1), 5, 1, False),
    "transposed, grey images": ((4, 5, 4, 4), 1, 2, True),
    "transposed, colour images": ((4, 5, 4, 3), 3, 2, True),
    "transposed, 1x1 maps": ((2, 7, 1, 1), 6, 2, True),
    "transposed, odd sizes, full vectors and a tail": ((2, 9, 3, 5), 70, 2, True),
    "transposed, one channel in: both memory formats at once": ((3, 1, 4, 4), 5, 2, True),
    "transposed, stride 1": ((2, 6, 5, 4), 5, 1, True),
    "transposed, stride 1, grey": ((2, 6, 3, 4), 1, 1, True),
    "transposed, stride 1, 1x1 maps": ((2, 6, 1, 1), 5, 1, True),
}
NAMES = ("y", "dx", "dweight", "dbias")


def inputs(case, dtype, seed=0, bias=True):
    """x, weight, bias, dy: as rounded to ``dtype``."""
    (batch, channels, height, width), outputs, stride, transposed = case
    random = torch.Generator().manual_seed(seed)

    def draw(*size):
        drawn = torch.randn(*size, generator=random).to(dtype)
        return drawn.contiguous(memory_format=torch.channels_last) if len(size) == 4 else drawn

    size = (height * stride, width * stride) if transposed else (height // stride, width // stride)
    ends = (channels, outputs) if transposed else (outputs, channels)
    x, weight = draw(batch, channels, height, width), draw(*ends, 4, 4)
    return [x, weight, draw(outputs) if bias else None, draw(batch, outputs, *size)]


def results(tensors, case, impl, dtype=None, device="cpu", activation=1.0):
    """The four results by the order of NAMES, in ``dtype`` if given."""
    tensors = [t if t is None else t.detach().to(device, dtype or t.dtype) for t in tensors]
    leaves = [t.requires_grad_() for t in tensors[:3] if t is not None]
    y = conv(*tensors[:3], *case[2:], activation, impl)
    return [y.detach(), *torch.autograd.grad(y, leaves, tensors[3])]


def assert_right(tensors, case, impl, device="cpu", activation=1.0):
    got = results(tensors, case, impl, None, device, activation)
    reference = results(tensors, case, "reference", activation=activation)
    truth = results(tensors, case, "reference", torch.float64, activation=activation)
    for result in zip(got, reference, truth, NAMES, strict=False):
        assert_as_close_as(*result)


def assert_right_in_float64(tensors, case, impl):
    """To the rounding of sums; the results, for what else is to be said of them."""
    found = results(tensors, case, impl)
    for got, right in zip(found, results(tensors, case, "reference"), strict=True):
        torch.testing.assert_close(got, right, rtol=SUMMATION_64, atol=SUMMATION_64)
    return found
