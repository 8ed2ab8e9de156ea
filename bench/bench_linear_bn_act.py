"""linear_bn_act over the presets' layers, forward and all gradients, against two ops in its place.

    pytest bench/bench_linear_bn_act.py --benchmark-group-by=param:layer,param:dtype

"two ops" are ``linear`` and ``bn_act`` as "auto" has them. Each timing follows a check of the
results. On a CPU, and in float32, linear_bn_act is these two as well.
"""

from __future__ import annotations

import pytest
import torch
from kernel_cases import assert_as_close_as
from tolerances import BENCH_KINK, BENCH_LONG_SUM, EPS

from bench.harness import DEVICE
from fastinfogan.device import wait
from fastinfogan.kernels.bn_act import bn_act
from fastinfogan.kernels.linear import linear
from fastinfogan.kernels.linear_bn_act import linear_bn_act, linear_bn_act_reference

# Outputs, inputs, groups, slope, whether a gradient goes back to the input.
LAYERS = {
    "mnist G fc1": (1024, 74, 1, 0.0, False),
    "mnist G fc2": (6272, 1024, 1, 0.0, True),
    "mnist D fc, real and fake": (1024, 6272, 2, 0.1, True),
    "mnist Q fc": (128, 1024, 1, 0.1, True),
    "celeba G fc": (1792, 228, 1, 0.0, False),
    "celeba Q fc": (128, 4096, 1, 0.1, True),
    "chairs G fc2": (16384, 1024, 1, 0.0, True),
    "chairs D fc, real and fake": (1024, 16384, 2, 0.1, True),
}
WARMUP = 10


def two_ops(x, weight, *rest):
    return bn_act(linear(x, weight, None), *rest)


IMPLEMENTATIONS = {"two ops": two_ops, "auto": linear_bn_act}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("layer", LAYERS)
def bench_linear_bn_act(benchmark, batch, layer, impl, dtype):
    *widths, groups, slope, back = LAYERS[layer]
    outputs, inputs = widths if batch == 128 else (min(width, 1024) for width in widths)
    torch.manual_seed(0)
    rows = groups * batch
    x = torch.randn(rows, inputs, device=DEVICE).to(dtype)
    weight = (torch.randn(outputs, inputs, device=DEVICE) * inputs**-0.5).to(dtype)
    affine = 1.0 + 0.1 * torch.randn(outputs, device=DEVICE), torch.randn(outputs, device=DEVICE)
    tensors = x, weight, *affine

    # At the activation's kink a rounding error decides between two slopes: no gradient there. (What
    # is normalised is a sum that was rounded; normalised, it is below 6.)
    doubles = [t.double() for t in tensors]
    centred = linear_bn_act_reference(*doubles, None, None, 1.0, groups)
    near = centred.abs() < BENCH_KINK + 6 * max(EPS[dtype], BENCH_LONG_SUM)
    dy = torch.randn(rows, outputs, device=DEVICE).to(dtype).masked_fill_(near, 0.0)

    def run(call=IMPLEMENTATIONS[impl], tensors=tensors):
        leaves = [t.detach() for t in tensors]
        wanted = [t.requires_grad_() for t in leaves[0 if back else 1 :]]
        y = call(*leaves, None, None, slope, groups)
        grads = torch.autograd.grad(y, wanted, dy.to(y.dtype))
        wait(DEVICE)
        return y.detach(), *grads

    # Parity first: a benchmark of a wrong result is worth nothing.
    reference = linear_bn_act_reference
    results = zip(run(), run(reference), run(reference, doubles), strict=True)
    for i, (got, plain, truth) in enumerate(results):
        assert_as_close_as(got, plain, truth.cpu(), f"{impl}, result {i}")

    benchmark.pedantic(run, rounds=30 if batch == 128 else 1, warmup_rounds=WARMUP)
    benchmark.extra_info["threads"] = torch.get_num_threads()
