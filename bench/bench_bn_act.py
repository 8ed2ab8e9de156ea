"""bn_act forward + backward over the presets' layers, against what one would write without it.

    pytest bench/ --benchmark-group-by=param:layer,param:dtype

Each timing follows a check of the results. "eager" is ATen's batchnorm and leaky_relu; "compiled"
is Inductor's fusion of them. GB/s counts the traffic that the op can't do without: x read and y
written, then dy and x read and dx written; "copies" is the same traffic by copy_, the yardstick.
"""

from __future__ import annotations

import time

import pytest
import torch
from tolerances import BENCH_KERNEL, BENCH_KINK
from torch.nn import functional as F

from fastinfogan.kernels.bn_act import bn_act, bn_act_reference

# (channels, height, width) or (channels,), groups, slope: the layers that take the time.
LAYERS = {
    "mnist D conv2, real and fake": ((128, 7, 7), 2, 0.1),
    "mnist D fc, real and fake": ((1024,), 2, 0.1),
    "mnist Q fc": ((128,), 1, 0.1),
    "mnist G fc2": ((6272,), 1, 0.0),
    "mnist G upconv": ((64, 14, 14), 1, 0.0),
    "celeba D conv3, real and fake": ((256, 4, 4), 2, 0.1),
    "celeba G upconv": ((256, 4, 4), 1, 0.0),
    "chairs D conv3, real and fake": ((256, 8, 8), 2, 0.1),
    "chairs G upconv4": ((64, 32, 32), 1, 0.0),
}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FUSED = "triton" if DEVICE == "cuda" else "native"
WARMUP = 3


def eager(x, weight, bias, mean, var, slope, groups):
    parts = [F.batch_norm(part, mean, var, weight, bias, True) for part in x.chunk(groups)]
    return F.leaky_relu(parts[0] if groups == 1 else torch.cat(parts), slope)


def fused(x, weight, bias, mean, var, slope, groups):
    return bn_act(x, weight, bias, mean, var, slope, groups, impl=FUSED)


def reference_of(leaves, slope, groups):
    zeros, ones = torch.zeros_like(leaves[1]), torch.ones_like(leaves[1])
    return bn_act_reference(*leaves, zeros, ones, slope, groups)


def compiled():
    torch._dynamo.reset()  # else earlier shapes count against the limit of recompilations
    return torch.compile(eager, fullgraph=True)


IMPLEMENTATIONS = {"eager": lambda: eager, "compiled": compiled, FUSED: lambda: fused}


def copy_seconds(x: torch.Tensor) -> float:
    """Seconds that copy_ takes for the five passes that the op can't do without."""
    source, target = x.detach().clone(), torch.empty_like(x)
    best = float("inf")
    for _ in range(5):
        synchronize()
        began = time.perf_counter()
        target.copy_(source)
        synchronize()
        best = min(best, time.perf_counter() - began)
    return best * 2.5  # a copy is two passes


def synchronize() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("layer", LAYERS)
def bench_bn_act(benchmark, batch, layer, impl, dtype):
    if impl == "compiled" and batch < 128:
        pytest.skip("compiling takes longer than everything else here")
    shape, groups, slope = LAYERS[layer]
    torch.manual_seed(0)
    x = torch.randn(batch * groups, *shape, device=DEVICE).to(dtype)
    if x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    weight, bias = 1.0 + 0.1 * torch.randn(2, shape[0], device=DEVICE)
    mean, var = torch.zeros_like(weight), torch.ones_like(weight)
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    doubles = [t.detach().double().requires_grad_() for t in leaves]
    # At the activation's kink a rounding error decides between two slopes: no gradient there.
    centred = reference_of(doubles, 1.0, groups).detach()
    dy = torch.randn_like(x).masked_fill_(centred.abs() < BENCH_KINK, 0.0)
    call = IMPLEMENTATIONS[impl]()

    def run():
        y = call(*leaves, mean, var, slope, groups)
        grads = torch.autograd.grad(y, leaves, dy)
        synchronize()
        return y, *grads

    # Parity first: a benchmark of a wrong result is worth nothing.
    exact = reference_of(doubles, slope, groups)
    truth = (exact, *torch.autograd.grad(exact, doubles, dy.double()))
    for got, expected in zip(run(), truth, strict=True):
        error = (got.double() - expected).norm() / expected.norm()
        assert error < BENCH_KERNEL[dtype], f"{impl} is wrong: relative error {error:.2g}"

    benchmark.pedantic(run, rounds=30 if batch == 128 else 1, warmup_rounds=WARMUP)
    benchmark.extra_info["threads"] = torch.get_num_threads()
    if benchmark.stats is not None:  # None with --benchmark-disable
        seconds = benchmark.stats.stats.min
        moved = 5 * x.numel() * x.element_size()
        benchmark.extra_info["GB/s"] = round(moved / seconds / 1e9, 1)
        benchmark.extra_info["of copy bandwidth"] = round(copy_seconds(x) / seconds, 2)
