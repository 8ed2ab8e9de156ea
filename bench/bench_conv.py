"""conv over the presets' layers, each of the output and the two gradients, against torch's own.

    pytest bench/bench_conv.py --benchmark-group-by=param:layer,param:result

Each timing follows a check of the results. "reference" is torch's convolution, asked for one
gradient at a time; "auto" takes the better one by a rule (docs/kernels.md). In float32 on the CPU,
in bfloat16 on a GPU.
"""

from __future__ import annotations

import pytest
import torch
from kernel_cases import assert_as_close_as

from bench.harness import DEVICE, FUSED
from fastinfogan.device import wait
from fastinfogan.kernels.channels_last import channels_last
from fastinfogan.kernels.conv import conv

# (inputs, outputs, size of the input, stride, transposed), and how many batches go through at once.
LAYERS = {
    "mnist D conv1, real and fake": ((1, 64, 28, 2, False), 2),
    "mnist D conv2, real and fake": ((64, 128, 14, 2, False), 2),
    "mnist G upconv1": ((128, 64, 7, 2, True), 1),
    "mnist G upconv2": ((64, 1, 14, 2, True), 1),
    "celeba D conv1, real and fake": ((3, 64, 32, 2, False), 2),
    "celeba D conv2, real and fake": ((64, 128, 16, 2, False), 2),
    "celeba D conv3, real and fake": ((128, 256, 8, 2, False), 2),
    "celeba G upconv1": ((448, 256, 2, 2, True), 1),
    "celeba G upconv2": ((256, 128, 4, 2, True), 1),
    "celeba G upconv3": ((128, 64, 8, 2, True), 1),
    "celeba G upconv4": ((64, 3, 16, 2, True), 1),
    "faces G upconv2": ((64, 1, 16, 2, True), 1),
    "chairs D conv3": ((128, 256, 16, 2, False), 1),
    "chairs D conv4": ((256, 256, 8, 1, False), 1),
    "chairs G upconv5": ((64, 1, 32, 2, True), 1),
    "folder 64 D conv4": ((256, 512, 8, 2, False), 1),
    "folder 64 G upconv4": ((64, 3, 32, 2, True), 1),
}
DTYPE = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
RESULTS = ("y", "dx", "dweight")
WARMUP = 2


@pytest.mark.parametrize("impl", ["reference", FUSED, "auto"])
@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("layer", LAYERS)
def bench_conv(benchmark, batch, layer, result, impl):
    (inputs, outputs, size, stride, transposed), batches = LAYERS[layer]
    torch.manual_seed(0)
    ends = (inputs, outputs) if transposed else (outputs, inputs)
    x, weight = (
        channels_last(t.to(DEVICE, DTYPE))
        for t in (torch.randn(batch * batches, inputs, size, size), torch.randn(*ends, 4, 4))
    )

    def build(x, weight, impl):
        """A function that computes the result."""
        leaf = {"y": None, "dx": x, "dweight": weight}[result]
        if leaf is None:
            return lambda: conv(x, weight, None, stride, transposed, impl=impl)
        leaf.requires_grad_()
        y = conv(x, weight, None, stride, transposed, impl=impl)
        torch.manual_seed(1)
        dy = channels_last(torch.randn(y.shape).to(y.device, y.dtype))
        return lambda: torch.autograd.grad(y, leaf, dy, retain_graph=True)[0]

    def run():
        result = call()
        wait(DEVICE)
        return result

    call = build(x.clone(), weight.clone(), impl)
    # Parity first: a benchmark of a wrong result is worth nothing.
    plain = build(x.clone(), weight.clone(), "reference")()
    truth = build(x.double(), weight.double(), "reference")().cpu()
    assert_as_close_as(run(), plain, truth, f"{impl}, {result}")

    benchmark.pedantic(run, rounds=10 if batch == 128 else 1, warmup_rounds=WARMUP)
    benchmark.extra_info["threads"] = torch.get_num_threads()
    if benchmark.stats is not None:  # None with --benchmark-disable
        small = size * size if transposed else (size // stride) ** 2
        flops = 2 * x.shape[0] * small * 16 * inputs * outputs
        benchmark.extra_info["GFLOP/s"] = round(flops / benchmark.stats.stats.min / 1e9)
