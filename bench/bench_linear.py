"""linear over the presets' heads and first layers, forward and all gradients, against torch's own.

    pytest bench/bench_linear.py --benchmark-group-by=param:layer,param:dtype

Each timing follows a check of the results. On a CPU "auto" is torch's layer as well.
"""

from __future__ import annotations

import pytest
import torch
from kernel_cases import assert_as_close_as

from bench.harness import DEVICE
from fastinfogan.device import wait
from fastinfogan.kernels.linear import linear_and_tail

# Outputs, inputs, how many batches go through at once, whether a gradient goes back to the input.
LAYERS = {
    "mnist D head": (1, 1024, 2, True),
    "celeba D head": (1, 4096, 2, True),
    "mnist Q": (12, 128, 1, True),
    "celeba Q": (100, 128, 1, True),
    "chairs Q": (62, 1024, 1, True),
    "mnist G first": (1024, 74, 1, False),
    "celeba G first": (1792, 228, 1, False),
    "chairs G first": (1024, 189, 1, False),
}
WARMUP = 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("impl", ["reference", "auto"])
@pytest.mark.parametrize("layer", LAYERS)
def bench_linear(benchmark, batch, layer, impl, dtype):
    outputs, inputs, batches, back = LAYERS[layer]
    torch.manual_seed(0)
    sizes = (batch * batches, inputs), (outputs, inputs), (outputs,), (batch * batches, outputs)
    x, weight, bias, dy = (torch.randn(size, device=DEVICE).to(dtype) for size in sizes)
    tail = batch if batches == 2 else 0
    dtail = torch.randn(tail, inputs, device=DEVICE).to(dtype)

    def run(impl=impl, dtype=dtype):
        leaves = [t.to(dtype).detach() for t in (x, weight, bias)]
        wanted = [t.requires_grad_() for t in leaves[0 if back else 1 :]]
        y, rest = linear_and_tail(*leaves, tail, impl)
        results = [(y, dy)] + ([(rest, dtail)] if tail else [])
        tensors, gradients = zip(*results, strict=True)
        grads = torch.autograd.grad(tensors, wanted, [g.to(dtype) for g in gradients])
        wait(DEVICE)
        return y.detach(), *grads

    # Parity first: a benchmark of a wrong result is worth nothing.
    results = zip(run(), run("reference"), run("reference", torch.float64), strict=True)
    for i, (got, plain, truth) in enumerate(results):
        assert_as_close_as(got, plain, truth.cpu(), f"{impl}, result {i}")

    benchmark.pedantic(run, rounds=300 if batch == 128 else 1, warmup_rounds=WARMUP)
    benchmark.extra_info["threads"] = torch.get_num_threads()
