"""draw over the presets' images, against what one would write without it.

    pytest bench/ --benchmark-group-by=param:images,param:dtype

Each timing follows a check of the results. "permutation" is what is usual: indices of a shuffled
list (making it isn't counted), then indexing and conversion. "eager" is the reference, which finds
the order of every batch; it walks cycles until all have ended, so it doesn't compile.
"""

from __future__ import annotations

import pytest
import torch
from tolerances import EPS, SCALE_ROUNDINGS

from bench.harness import DEVICE, FUSED, relative_error
from fastinfogan.device import wait
from fastinfogan.kernels.gather import draw, draw_reference, gather_reference, order_reference

# (N, H, W, C), output range. N is less than the data sets have: memory, not arithmetic.
IMAGES = {
    "mnist": ((60_000, 28, 28, 1), (0.0, 1.0)),
    "digits": ((5_000, 28, 28, 1), (0.0, 1.0)),
    "celeba": ((40_000, 32, 32, 3), (-1.0, 1.0)),
    "chairs": ((20_000, 64, 64, 1), (0.0, 1.0)),
}
SEED, POSITION = 3, 2**33 + 5
WARMUP = 3


def eager(images, batch, seed, position, output_range, dtype):
    return draw_reference(images, batch, seed, position, output_range, dtype)


def fused(images, batch, seed, position, output_range, dtype):
    return draw(images, batch, seed, position, output_range=output_range, dtype=dtype, impl=FUSED)


def permutation(compile=False):
    indices = None

    def convert(images, indices, output_range, dtype):
        low, high = output_range
        pixels = images[indices].permute(0, 3, 1, 2)
        return (pixels.float() * ((high - low) / 255.0) + low).to(dtype)

    if compile:
        torch._dynamo.reset()  # else earlier shapes count against the limit of recompilations
        convert = torch.compile(convert, fullgraph=True)

    def call(images, batch, seed, position, output_range, dtype):
        nonlocal indices
        if indices is None:
            positions = POSITION + torch.arange(batch, device=DEVICE)
            indices = order_reference(positions, len(images), SEED)
        return convert(images, indices, output_range, dtype)

    return call


IMPLEMENTATIONS = {
    "eager": lambda: eager,
    "permutation": permutation,
    "permutation, compiled": lambda: permutation(compile=True),
    FUSED: lambda: fused,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("images", IMAGES)
def bench_draw(benchmark, batch, images, impl, dtype):
    if "compiled" in impl and batch < 128:
        pytest.skip("compiling takes longer than everything else here")
    shape, output_range = IMAGES[images]
    shape = (shape[0] * batch // 128, *shape[1:])
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=random).to(DEVICE)
    seed, position = (torch.tensor([n], device=DEVICE) for n in (SEED, POSITION))
    call = IMPLEMENTATIONS[impl]()

    def run():
        drawn = call(pixels, batch, seed, position, output_range, dtype)
        wait(DEVICE)
        return drawn

    # Parity first: a benchmark of a wrong result is worth nothing.
    positions = POSITION + torch.arange(batch, device=DEVICE)
    indices = order_reference(positions, len(pixels), SEED)
    truth = gather_reference(pixels, indices, output_range, torch.float64)
    error = relative_error(run(), truth)
    allowed = SCALE_ROUNDINGS * EPS[torch.float32] + EPS[dtype]
    assert error < allowed, f"{impl} is wrong: relative error {error:.2g}"

    benchmark.pedantic(run, rounds=100 if batch == 128 else 1, warmup_rounds=WARMUP)
    benchmark.extra_info["threads"] = torch.get_num_threads()
