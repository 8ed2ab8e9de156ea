"""Two convolutions with a slope in between: one launch applies its derivative to the gradient."""

from __future__ import annotations

import pytest
import torch
from conv_cases import inputs
from kernel_cases import need
from tolerances import EPS

from bench.predict.iteration import count
from fastinfogan.kernels.conv import conv_and_sums, triton
from fastinfogan.kernels.dispatch import recorded

PLACES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
# Two layers of the same kind: batch, channels, height, width of x; strides.
CASES = {
    "downwards": ((2, 3, 10, 13), (2, 2), False),
    "downwards, stride 1": ((2, 3, 6, 8), (2, 1), False),
    "upwards": ((2, 3, 3, 4), (2, 2), True),
    "upwards, stride 1": ((2, 3, 3, 4), (2, 1), True),
}


def gradients(why, dtype, impl, agreed, device="cpu", slope=0.1, frozen=False):
    """Of x and, unless these are frozen, of both weights and the first bias."""
    shape, strides, transposed = CASES[why]
    x, first, bias, _ = inputs((shape, 9, strides[0], transposed), dtype)
    between = (shape[0], 9, 1, 1)
    second = inputs((between, 6, strides[1], transposed), dtype, 1)[1]
    leaves = [t.to(device).requires_grad_() for t in (x, first, second, bias)]
    x, first, second, bias = leaves
    if frozen:
        for t in leaves[1:]:
            t.requires_grad_(False)
        leaves = leaves[:1]
    y, _ = conv_and_sums(
        x, first, bias, strides[0], transposed, slope, 0, impl, derived_behind=agreed
    )
    z, _ = conv_and_sums(
        y, second, None, strides[1], transposed, 1.0, 0, impl, x_slope=slope if agreed else 1.0
    )
    random = torch.Generator().manual_seed(2)
    dz = torch.randn(z.shape, generator=random).to(device, dtype)
    return torch.autograd.grad(z, leaves, dz)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("slope", [0.0, 0.1])
@pytest.mark.parametrize("why", CASES)
def test_on_a_cpu_the_bits_are_the_same(why, slope, dtype):
    need("native", "cpu")
    for frozen in (True, False):
        found = [gradients(why, dtype, "native", a, "cpu", slope, frozen) for a in (True, False)]
        assert all(map(torch.equal, *found))


@pytest.mark.parametrize("device", PLACES)
@pytest.mark.parametrize(
    ("why", "frozen"),
    [*((why, False) for why in CASES), ("downwards", True), ("upwards, stride 1", True)],
)
def test_a_gpu_rounds_once_less(why, frozen, device):
    need("triton", device)
    dtype = torch.float16
    found = [gradients(why, dtype, "triton", a, device, 0.1, frozen) for a in (True, False)]
    for once, twice in zip(*found, strict=True):
        size = twice.float().abs().max()
        assert (once.float() - twice.float()).abs().max() <= 2 * EPS[dtype] * size


@pytest.mark.parametrize("transposed", [False, True])
def test_a_large_batch_takes_several_launches(transposed, monkeypatch):
    need("triton", "cpu")
    why = "upwards" if transposed else "downwards"
    whole = gradients(why, torch.float16, "triton", True)
    monkeypatch.setattr(triton, "MOST_TILES", 1)
    parts = gradients(why, torch.float16, "triton", True)
    for a, b in zip(whole, parts, strict=True):
        assert (a.float() - b.float()).abs().max() <= 2 * EPS[torch.float16] * a.float().abs().max()


@pytest.mark.parametrize("transposed", [False, True])
def test_older_gpus_derive_it_afterwards(transposed, monkeypatch):
    need("triton", "cpu")
    why = "upwards" if transposed else "downwards"
    monkeypatch.setattr(triton, "multiplies", lambda device: False)
    found = [gradients(why, torch.float16, "triton", a, frozen=True) for a in (True, False)]
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("why", CASES)
def test_on_a_cpu_it_is_no_pass_of_its_own(why):
    need("native", "cpu")
    with recorded(), torch.profiler.profile() as seen:
        gradients(why, torch.float32, "native", True, slope=0.1)
    names = {event.name for event in seen.events()}
    assert names >= {"native::conv_down", "native::conv_up"}
    assert "aten::leaky_relu_backward" not in names


@pytest.mark.parametrize("device", PLACES)
def test_opcheck(device):
    need("triton", device)
    x, weight, _, dy = (t.to(device) for t in inputs(((2, 3, 5, 4), 6, 2, False), torch.float16))
    ops = torch.ops.fastinfogan
    torch.library.opcheck(ops.conv_up_derived_triton.default, (dy, weight, 2, x, 0.1))
    torch.library.opcheck(ops.conv_down_derived_triton.default, (x, weight, 2, dy, 0.0))


@pytest.mark.parametrize("channels", [3, 5])  # of an image, of a map
def test_opcheck_on_a_cpu(channels):
    need("native", "cpu")
    x, weight, _, dy = inputs(((2, channels, 5, 4), 6, 2, False), torch.float32)
    ops = torch.ops.fastinfogan
    torch.library.opcheck(ops.conv_up_derived_native.default, (dy, weight, 2, x, 0.1))
    torch.library.opcheck(ops.conv_down_derived_native.default, (x, weight, 2, dy, 0.0))


def test_no_launch_of_its_own_is_left():
    """In an iteration of a preset with such layers in D and G, as a GPU would run it."""
    found = count("celeba", torch.bfloat16)
    assert "leaky_relu_backward" not in {work.kernel for work in found.library}


def test_a_slope_behind_is_a_slope():
    x, weight, _, _ = inputs(((2, 3, 6, 6), 5, 2, False), torch.float32)
    with pytest.raises(ValueError) as caught:
        conv_and_sums(x, weight, None, 2, False, "tanh", 0, derived_behind=True)
    assert str(caught.value) == "conv: derived_behind with activation='tanh'; a slope works"
