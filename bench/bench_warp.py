"""warp forward + backward, and draw_maps, against what one would write without them.

    pytest bench/bench_warp.py::bench_warp --benchmark-group-by=param:images,param:dtype

Each timing follows a check of the results. "grid_sample" is torch's own sampling alone, with zeros
beyond the border, a grid that is made beforehand and no change of brightness or contrast; "eager"
is the reference, and "compiled" is Inductor's fusion of it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tolerances import BENCH_WARP, DRAW_ROUNDINGS, EPS
from torch.nn import functional as F

from fastinfogan.kernels.jitter import Jitter
from fastinfogan.kernels.philox import STREAM_COPY
from fastinfogan.kernels.warp import draw_maps, draw_maps_reference, warp, warp_reference

# (C, H, W) of the presets' images.
IMAGES = {"mnist": (1, 28, 28), "celeba": (3, 32, 32), "chairs": (1, 64, 64)}
JITTER = Jitter(rotation=0.3, scale=0.15, shear=0.2, shift=0.08, brightness=0.2, contrast=0.2)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FUSED = "triton" if DEVICE == "cuda" else "native"
WARMUP = 3


def numbers():
    return [torch.tensor([n], device=DEVICE) for n in (3, 2**32 - 2)]


def synchronize() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def eager(x, maps, fill):
    return warp_reference(x, maps, fill)


def fused(x, maps, fill):
    return warp(x, maps, fill, impl=FUSED)


def compiled():
    torch._dynamo.reset()  # else earlier shapes count against the limit of recompilations
    return torch.compile(eager, fullgraph=True)


def grid_sample():
    grid = None

    def call(x, maps, fill):
        nonlocal grid
        if grid is None:
            affine = maps[:, :6].reshape(-1, 2, 3)
            grid = F.affine_grid(affine, list(x.shape), align_corners=False).to(x.dtype)
        return F.grid_sample(x, grid, align_corners=False)

    return call


IMPLEMENTATIONS = {
    "grid_sample": grid_sample,
    "eager": lambda: eager,
    "compiled": compiled,
    FUSED: lambda: fused,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("images", IMAGES)
def bench_warp(benchmark, batch, images, impl, dtype):
    if impl == "compiled" and batch < 128:
        pytest.skip("compiling takes longer than everything else here")
    if impl == "grid_sample" and dtype == torch.bfloat16:
        pytest.skip("a coordinate in bfloat16 is off by a tenth of a pixel")
    torch.manual_seed(0)
    channels, _, _ = shape = IMAGES[images]
    x, dy = (
        draw(batch, *shape, device=DEVICE).to(dtype).contiguous(memory_format=torch.channels_last)
        for draw in (torch.rand, torch.randn)
    )
    x.requires_grad_()
    # Where it has to do the same as grid_sample, the op changes neither brightness nor fill.
    plain = impl == "grid_sample"
    jitter = replace(JITTER, brightness=0.0, contrast=0.0)
    maps = draw_maps(jitter if plain else JITTER, batch, *numbers(), STREAM_COPY)
    fill = torch.full((channels,), 0.0 if plain else 0.25, device=DEVICE)
    call = IMPLEMENTATIONS[impl]()

    def run():
        y = call(x, maps, fill)
        grad = torch.autograd.grad(y, x, dy)[0]
        synchronize()
        return y, grad

    # Parity first: a benchmark of a wrong result is worth nothing.
    exact = x.detach().double().requires_grad_()
    y = warp_reference(exact, maps, fill)
    truth = (y, torch.autograd.grad(y, exact, dy.double())[0])
    for got, expected in zip(run(), truth, strict=True):
        error = (got.double() - expected).norm() / expected.norm()
        allowed = BENCH_WARP * max(shape) + EPS[dtype]
        assert error < allowed, f"{impl} is wrong: relative error {error:.2g}"

    benchmark.pedantic(run, rounds=50 if batch == 128 else 1, warmup_rounds=WARMUP)
    benchmark.extra_info["threads"] = torch.get_num_threads()


@pytest.mark.parametrize("impl", ["eager", FUSED])
def bench_draw_maps(benchmark, batch, impl):
    seed, offset = numbers()

    def run():
        if impl == "eager":
            maps = draw_maps_reference(JITTER, batch, seed, offset, STREAM_COPY)
        else:
            maps = draw_maps(JITTER, batch, seed, offset, STREAM_COPY, impl=impl)
        synchronize()
        return maps

    truth = draw_maps_reference(JITTER, batch, seed, offset, STREAM_COPY)
    error = (run() - truth).abs().max()
    assert error < DRAW_ROUNDINGS * EPS[torch.float32], f"{impl} is wrong: off by {error:.2g}"

    benchmark.pedantic(run, rounds=100 if batch == 128 else 1, warmup_rounds=WARMUP)
    benchmark.extra_info["threads"] = torch.get_num_threads()
