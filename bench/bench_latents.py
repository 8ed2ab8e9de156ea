"""latents over the presets' codes, against what one would write without it.

    pytest bench/ --benchmark-group-by=param:preset,param:dtype

Each timing follows a check of the results. "eager" is the reference: Philox and Box-Muller in plain
torch; "compiled" is Inductor's fusion of it; "torch" draws with torch's own generator (another
stream, so only its distribution is checked).
"""

from __future__ import annotations

import pytest
import torch
from tolerances import BENCH_DEVIATIONS, BENCH_DRAW, EPS

from bench.harness import DEVICE, FUSED, relative_error
from fastinfogan.config import PRESETS
from fastinfogan.device import wait
from fastinfogan.kernels.latents import latents, latents_reference
from fastinfogan.model.latent_spec import make_spec

WARMUP = 3


def eager(spec, batch, seed, offset, dtype):
    return latents_reference(spec.noise, spec.codes, batch, seed, offset, DEVICE, dtype)


def fused(spec, batch, seed, offset, dtype):
    return latents(spec.noise, spec.codes, batch, seed, offset, dtype=dtype, impl=FUSED)


def torch_generator(spec, batch, seed, offset, dtype):
    draws = {
        "categorical": lambda code: torch.randint(code.categories, (batch,), device=DEVICE),
        "uniform": lambda code: torch.rand(batch, device=DEVICE) * 2.0 - 1.0,
        "gaussian": lambda code: torch.randn(batch, device=DEVICE),
        "bernoulli": lambda code: torch.randint(2, (batch,), device=DEVICE),
    }
    noise = torch.randn(batch, spec.noise, device=DEVICE)
    values = torch.stack([draws[code.kind](code).float() for code in spec.codes], dim=1)
    return spec.assemble(noise, values).to(dtype), values


def compiled():
    torch._dynamo.reset()  # else earlier shapes count against the limit of recompilations
    return torch.compile(eager, fullgraph=True)


IMPLEMENTATIONS = {
    "torch": lambda: torch_generator,
    "eager": lambda: eager,
    "compiled": compiled,
    FUSED: lambda: fused,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("preset", ["mnist", "svhn", "celeba", "chairs-rotation"])
def bench_latents(benchmark, batch, preset, impl, dtype):
    if impl == "compiled" and batch < 128:
        pytest.skip("compiling takes longer than everything else here")
    spec = make_spec(PRESETS[preset].noise, PRESETS[preset].codes)
    seed, offset = (torch.tensor([n], device=DEVICE) for n in (3, 2**32 - 2))
    call = IMPLEMENTATIONS[impl]()

    def run():
        drawn = call(spec, batch, seed, offset, dtype)
        wait(DEVICE)
        return drawn

    # Parity first: a benchmark of a wrong result is worth nothing.
    truth = eager(spec, batch, seed, offset, torch.float32)
    if impl == "torch":
        noise = run()[0][:, : spec.noise].double()
        allowed = BENCH_DEVIATIONS / noise.numel() ** 0.5
        assert abs(noise.mean()) < allowed, f"{impl} is wrong: {noise.mean()}"
    else:
        for got, expected, rounding in zip(run(), truth, (dtype, torch.float32), strict=True):
            allowed = BENCH_DRAW + EPS[rounding]
            error = relative_error(got, expected)
            assert error < allowed, f"{impl} is wrong: relative error {error:.2g}"

    benchmark.pedantic(run, rounds=100 if batch == 128 else 1, warmup_rounds=WARMUP)
    benchmark.extra_info["threads"] = torch.get_num_threads()
