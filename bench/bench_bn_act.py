"""bn_act forward + backward over the presets' layers, against what one would write without it.

    pytest bench/ --benchmark-group-by=param:layer,param:dtype

Each timing follows a check of the results. "eager" is ATen's batchnorm and leaky_relu; "compiled"
is Inductor's fusion of them. GB/s counts the traffic that the op can't do without: x read and y
written, then dy and x read and dx written; "copies" is the same traffic by copy_, the yardstick.
"""

from __future__ import annotations

import pytest
import torch
from kernel_cases import assert_as_close_as
from tolerances import BENCH_KINK
from torch.nn import functional as F

from bench.harness import DEVICE, FUSED, copy_seconds
from fastinfogan.device import wait
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
NAMES = ("y", "dx", "dweight", "dbias")
WARMUP = 3


def eager(x, weight, bias, mean, var, slope, groups):
    parts = [F.batch_norm(part, mean, var, weight, bias, True) for part in x.chunk(groups)]
    return F.leaky_relu(parts[0] if groups == 1 else torch.cat(parts), slope)


def fused(x, weight, bias, mean, var, slope, groups):
    return bn_act(x, weight, bias, mean, var, slope, groups, impl=FUSED)


def reference(x, weight, bias, mean, var, slope, groups):
    return bn_act_reference(x, weight, bias, mean, var, slope, groups)


def compiled():
    torch._dynamo.reset()  # else earlier shapes count against the limit of recompilations
    return torch.compile(eager, fullgraph=True)


IMPLEMENTATIONS = {"eager": lambda: eager, "compiled": compiled, FUSED: lambda: fused}


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
    statistics = torch.zeros_like(weight), torch.ones_like(weight)
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    doubles = [t.detach().double().requires_grad_() for t in leaves]
    # At the activation's kink a rounding error decides between two slopes: no gradient there.
    statistics64 = [t.double() for t in statistics]
    centred = reference(*doubles, *statistics64, 1.0, groups).detach()
    dy = torch.randn_like(x).masked_fill_(centred.abs() < BENCH_KINK, 0.0)
    call = IMPLEMENTATIONS[impl]()

    def run(call=call, leaves=leaves, statistics=statistics):
        y = call(*leaves, *statistics, slope, groups)
        grads = torch.autograd.grad(y, leaves, dy.to(y.dtype))
        wait(DEVICE)
        return y.detach(), *grads

    # Parity first: a benchmark of a wrong result is worth nothing.
    exact = run(reference, doubles, statistics64)
    for got, plain, truth, name in zip(run(), run(reference), exact, NAMES, strict=True):
        assert_as_close_as(got, plain, truth.cpu(), f"{impl}, {name}")

    benchmark.pedantic(run, rounds=30 if batch == 128 else 1, warmup_rounds=WARMUP)
    benchmark.extra_info["threads"] = torch.get_num_threads()
    if benchmark.stats is not None:  # None with --benchmark-disable
        seconds = benchmark.stats.stats.min
        moved = 5 * x.nbytes
        copy = copy_seconds(2 * x.nbytes)  # two of the five passes
        benchmark.extra_info["GB/s"] = round(moved / seconds / 1e9, 1)
        benchmark.extra_info["of copy bandwidth"] = round(2.5 * copy / seconds, 2)
