"""dense over mnist-mlp's networks, forward and all gradients, against torch's own layers.

    pytest bench/bench_dense.py --benchmark-group-by=param:network

Each timing follows a check of the results. On a GPU "auto" is a ``linear`` for each layer.
"""

from __future__ import annotations

import pytest
import torch
from kernel_cases import assert_as_close_as

from bench.harness import DEVICE
from fastinfogan.device import wait
from fastinfogan.kernels.dense import dense

# Features, activations, how many batches of 32 go through at once.
NETWORKS = {
    "G": ((26, 256, 784), (0.0, "sigmoid"), 1),
    "D": ((784, 128, 1), (0.0, 1.0), 2),
    "Q": ((784, 128, 10), (0.0, 1.0), 1),
}


@pytest.mark.parametrize("impl", ["reference", "auto"])
@pytest.mark.parametrize("network", NETWORKS)
def bench_dense(benchmark, batch, network, impl):
    sizes, activations, batches = NETWORKS[network]
    rows = min(batch, 32) * batches
    torch.manual_seed(0)
    pairs = list(zip(sizes[1:], sizes[:-1], strict=True))
    weights = [torch.randn(o, i, device=DEVICE) / i**0.5 for o, i in pairs]
    biases = [torch.randn(o, device=DEVICE) for o, _ in pairs]
    x, dy = (torch.randn(rows, size, device=DEVICE) for size in (sizes[0], sizes[-1]))

    def run(impl=impl, dtype=torch.float32):
        leaves = [t.to(dtype).detach().requires_grad_() for t in (x, *weights, *biases)]
        count = len(weights)
        y = dense(leaves[0], leaves[1 : count + 1], leaves[count + 1 :], activations, impl)
        grads = torch.autograd.grad(y, leaves, dy.to(dtype))
        wait(DEVICE)
        return y.detach(), *grads

    # Parity first: a benchmark of a wrong result is worth nothing.
    results = zip(run(), run("reference"), run("reference", torch.float64), strict=True)
    for i, (got, plain, truth) in enumerate(results):
        assert_as_close_as(got, plain, truth.cpu(), f"{impl}, result {i}")

    benchmark.pedantic(run, rounds=300 if batch == 128 else 1, warmup_rounds=10)
    benchmark.extra_info["threads"] = torch.get_num_threads()
