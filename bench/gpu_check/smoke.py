"""The least that must work on a GPU: one Triton kernel, one compiled function, one recorded graph.

``python -m bench.gpu_check.smoke`` prints the seconds of each as a line of JSON.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import torch
from torch import Tensor

from bench.harness import DEVICE, FUSED
from fastinfogan.device import wait
from fastinfogan.kernels.bn_act import bn_act


def _call(x: Tensor) -> Tensor:
    channels = x.shape[1]
    weight, bias, mean, var = (torch.ones(channels, device=DEVICE) for _ in range(4))
    return bn_act(x, weight, bias, mean, var, 0.1, impl=FUSED)


def kernel(x: Tensor) -> None:
    """One kernel against the same on the CPU."""
    y = _call(x).cpu()
    plain = torch.nn.functional.batch_norm(x.cpu(), None, None, training=True) + 1.0
    torch.testing.assert_close(y, torch.nn.functional.leaky_relu(plain, 0.1), rtol=1e-4, atol=1e-4)


def compiled(x: Tensor) -> None:
    """One compiled function, with a kernel in it, against itself uncompiled."""

    def function(x: Tensor) -> Tensor:
        return _call(2.0 * x).square()

    torch.testing.assert_close(torch.compile(function, fullgraph=True)(x), function(x))


def recorded(x: Tensor) -> None:
    """One graph, replayed on other numbers."""
    if DEVICE.type != "cuda":
        return
    graph, expected = torch.cuda.CUDAGraph(), _call(2.0 * x)
    with torch.cuda.graph(graph):
        y = _call(x)
    x *= 2.0
    graph.replay()
    torch.testing.assert_close(y, expected)


def main() -> None:
    """Try all three."""
    x = torch.randn(64, 32, 8, 8, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    x = x.contiguous(memory_format=torch.channels_last)
    seconds = {}
    checks: tuple[Callable[[Tensor], None], ...] = (kernel, compiled, recorded)
    for check in checks:
        began = time.perf_counter()
        check(x)
        wait(DEVICE)
        seconds[check.__name__] = round(time.perf_counter() - began, 2)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
