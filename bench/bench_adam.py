"""One step of Adam over each preset's networks, and the bfloat16 copy of the parameters.

    pytest bench/bench_adam.py --benchmark-group-by=param:network

Each timing follows a check of the results. "fused" and "foreach" are torch.optim.Adam's, then a
cast of every parameter. GB/s counts the traffic that a step can't do without: parameters, moments
and gradients read; parameters, moments and the copy written: 30 bytes a parameter. "of copy
bandwidth" is the same traffic by copy_, over the time.
"""

from __future__ import annotations

import pytest
import torch
from tolerances import BENCH_ADAM, BENCH_ADAM_COPY

from bench.harness import DEVICE, FUSED, copy_seconds, relative_error
from fastinfogan.config import ADAM_EPS, PRESETS
from fastinfogan.device import wait
from fastinfogan.kernels.adam import adam, offsets
from fastinfogan.model.latent_spec import make_spec
from fastinfogan.model.networks import Discriminator, Generator

LR, BETAS = 1e-3, (0.5, 0.999)
BYTES = 4 * 4 + 3 * 4 + 2  # read, written, the copy
NETWORKS = [f"{preset} {part}" for preset in ("mnist", "celeba", "mnist-mlp") for part in "DG"]


def sizes_of(network: str) -> list[int]:
    name, part = network.split()
    preset = PRESETS[name]
    spec = make_spec(preset.noise, preset.codes)
    with torch.device("meta"):
        if part == "G":
            module = Generator(preset.architecture, spec)
        else:
            module = Discriminator(preset.architecture, spec, separate_q=False)
    return [p.numel() for p in module.parameters()]


class Torch:
    """torch.optim.Adam and a cast."""

    def __init__(self, values: list[torch.Tensor], grads: list[torch.Tensor], **kind: bool) -> None:
        self.parameters = [torch.nn.Parameter(value.clone()) for value in values]
        for parameter, grad in zip(self.parameters, grads, strict=True):
            parameter.grad = grad
        self.optimiser = torch.optim.Adam(self.parameters, LR, BETAS, ADAM_EPS, **kind)
        self.copies = [torch.empty_like(v, dtype=torch.bfloat16) for v in values]

    @torch.no_grad()
    def __call__(self) -> None:
        self.optimiser.step()
        torch._foreach_copy_(self.copies, self.parameters)
        wait(DEVICE)

    def results(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        return [p.detach() for p in self.parameters], self.copies


class Ours:
    """The op, over the flat buffer."""

    def __init__(self, values: list[torch.Tensor], grads: list[torch.Tensor]) -> None:
        starts, total = offsets([value.numel() for value in values])
        self.flat = torch.zeros(total, device=DEVICE)
        self.views = [
            self.flat[start : start + value.numel()]
            for start, value in zip(starts, values, strict=True)
        ]
        for view, value in zip(self.views, values, strict=True):
            view.copy_(value)
        self.starts, self.grads = starts, grads
        self.moments = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        self.copy = torch.zeros_like(self.flat, dtype=torch.bfloat16)
        self.step = torch.zeros((), dtype=torch.int64, device=DEVICE)
        self.lr = torch.full((), LR, device=DEVICE)

    def __call__(self) -> None:
        exp_avg, exp_avg_sq = self.moments
        adam(
            self.flat, self.grads, exp_avg, exp_avg_sq, self.step, self.lr,
            beta1=BETAS[0], beta2=BETAS[1], eps=ADAM_EPS, copy=self.copy, impl=FUSED,
        )  # fmt: skip
        wait(DEVICE)

    def results(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        copies = [
            self.copy[start : start + view.numel()]
            for start, view in zip(self.starts, self.views, strict=True)
        ]
        return self.views, copies


IMPLEMENTATIONS = {
    "fused": lambda *tensors: Torch(*tensors, fused=True),
    "foreach": lambda *tensors: Torch(*tensors, foreach=True),
    FUSED: Ours,
}


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("network", NETWORKS)
def bench_adam(benchmark, batch, network, impl):
    tiny = batch < 128
    sizes = [-(-size // 16) for size in sizes_of(network)] if tiny else sizes_of(network)
    torch.manual_seed(0)
    values, grads = ([torch.randn(size, device=DEVICE) for size in sizes] for _ in range(2))
    subject = IMPLEMENTATIONS[impl](values, grads)

    # Parity first: a benchmark of a wrong result is worth nothing.
    truth = Torch([v.double() for v in values], [g.double() for g in grads])
    subject(), truth()
    for got, copy, exact in zip(*subject.results(), truth.results()[0], strict=True):
        for result, allowed in ((got, BENCH_ADAM), (copy, BENCH_ADAM_COPY)):
            error = relative_error(result, exact)
            assert error < allowed, f"{impl} is wrong: relative error {error:.2g}"

    benchmark.pedantic(subject, rounds=1 if tiny else 30, warmup_rounds=3)
    benchmark.extra_info["threads"] = torch.get_num_threads()
    if benchmark.stats is not None:  # None with --benchmark-disable
        seconds, moved = benchmark.stats.stats.min, BYTES * sum(sizes)
        benchmark.extra_info["GB/s"] = round(moved / seconds / 1e9, 1)
        benchmark.extra_info["of copy bandwidth"] = round(copy_seconds(moved) / seconds, 2)
