"""warp and draw_maps name an argument that is off; warp takes images of any strides."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import PLACES, need
from warp_cases import OUTPUT_RANGE, inputs, outputs

from fastinfogan.kernels.jitter import Jitter
from fastinfogan.kernels.warp import draw_maps, warp


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("layout", ["contiguous", "cropped", "permuted"])
def test_any_strides_do(impl, device, layout):
    need(impl, device)
    tensors = inputs((4, 3, 6, 5), torch.float32)
    x, maps, fill, dy = tensors
    x, dy = (t.contiguous(memory_format=torch.channels_last) for t in (x, dy))
    expected = outputs((x, maps, fill, dy), impl, device)
    if layout == "contiguous":  # NCHW; so is the gradient
        x, dy = x.contiguous(), dy.contiguous()
    elif layout == "cropped":
        wide = torch.zeros(4, 3, 7, 6)
        wide[..., :-1, :-1] = x
        x = wide[..., :-1, :-1]
    else:
        x, maps = (t.transpose(0, 1).contiguous().transpose(0, 1) for t in (x, maps))
    x, maps, fill, dy = (t.to(device) for t in (x, maps, fill, dy))
    y = warp(x.requires_grad_(), maps, fill, OUTPUT_RANGE, impl=impl)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(y, expected[0])
    assert torch.equal(torch.autograd.grad(y, x, dy)[0], expected[1])


@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_a_gradient_without_strides_does(impl, device):
    """As .sum() hands it down."""
    need(impl, device)
    x, maps, fill, dy = inputs((4, 3, 6, 5), torch.float32)
    expected = outputs((x, maps, fill, torch.ones_like(dy)), impl, device)[1]
    x, maps, fill = (t.to(device) for t in (x, maps, fill))
    warp(x.requires_grad_(), maps, fill, OUTPUT_RANGE, impl=impl).sum().backward()
    assert torch.equal(x.grad, expected)


def warp_arguments(**changed):
    x = changed.pop("x", torch.randn(4, 3, 2, 5))
    return dict(x=x, maps=torch.zeros(4, 8), fill=torch.zeros(3)) | changed


@pytest.mark.parametrize("impl", ["reference", "native"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(x=torch.randn(4, 3)), "x is (4, 3); (B, C, H, W), not empty, works"),
        (dict(x=torch.randn(4, 3, 0, 5)), "x is (4, 3, 0, 5)"),
        (dict(x=torch.ones(4, 3, 2, 5, dtype=torch.uint8)), "x is torch.uint8"),
        (dict(maps=torch.zeros(3, 8)), "maps is (3, 8); (4, 8) fits x"),
        (dict(maps=torch.zeros(4, 6)), "maps is (4, 6); (4, 8) fits x"),
        (dict(maps=torch.zeros(4, 8).double()), "maps is torch.float64; it must be torch.float32"),
        (dict(maps=torch.zeros(4, 8, device="meta")), "maps is on meta, and x on cpu"),
        (dict(fill=0.0), "fill is of type float; a tensor works"),
        (dict(fill=torch.zeros(1)), "fill is (1,); (3,) fits x"),
        (dict(fill=torch.zeros(3).bfloat16()), "fill is torch.bfloat16; torch.float32 fits x"),
        (dict(fill=torch.zeros(3, device="meta")), "fill is on meta, and x on cpu"),
        (dict(fill=torch.zeros(6)[::2]), "fill has stride 2"),
        (dict(output_range=(1.0, 1.0)), "output_range=(1.0, 1.0); two rising finite numbers"),
        (dict(output_range=(0.0, float("inf"))), "output_range=(0.0, inf)"),
    ],
)
def test_bad_arguments_of_warp(impl, changed, message):
    with pytest.raises(ValueError) as caught:
        warp(**warp_arguments(**changed), impl=impl)
    assert message in str(caught.value)
    assert str(caught.value).startswith("warp: ") and "\n" not in str(caught.value)


def draw_arguments(**changed):
    numbers = dict(seed=torch.tensor([3]), offset=torch.tensor([0]))
    return dict(jitter=Jitter(rotation=0.1), batch=4, stream=4) | numbers | changed


@pytest.mark.parametrize("impl", ["reference", "native"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(jitter=Jitter(rotation=0.9)), "jitter.rotation=0.9; 0 to 0.8 work"),
        (dict(jitter=Jitter(scale=-0.1)), "jitter.scale=-0.1; 0 to 0.5 work"),
        (dict(jitter=Jitter(shear=float("nan"))), "jitter.shear=nan; 0 to 0.5 work"),
        (dict(jitter=Jitter(flip=2.0)), "jitter.flip=2.0; 0 to 1.0 work"),
        (dict(batch=0), "batch=0; 1 or more work"),
        (dict(seed=torch.tensor([1.0])), "seed is torch.float32 of shape (1,)"),
        (dict(offset=torch.tensor(1)), "offset is torch.int64 of shape ()"),
        (dict(offset=torch.tensor([1], device="meta")), "offset is on meta, and seed on cpu"),
        (dict(stream=-1), "stream=-1; 0 or more work"),
        (dict(output_range=(1.0, 0.0)), "output_range=(1.0, 0.0); two rising finite numbers"),
    ],
)
def test_bad_arguments_of_draw_maps(impl, changed, message):
    with pytest.raises(ValueError) as caught:
        draw_maps(**draw_arguments(**changed), impl=impl)
    assert message in str(caught.value)
    assert str(caught.value).startswith("draw_maps: ") and "\n" not in str(caught.value)


def test_float16_on_a_cpu_takes_the_reference():
    x, maps, fill, _ = inputs((2, 1, 4, 4), torch.float16)
    got, expected = (warp(x, maps, fill, impl=impl) for impl in ("auto", "reference"))
    assert torch.equal(got, expected)
    with pytest.raises(RuntimeError, match="warp: impl='native' can't run: it has no float16"):
        warp(x, maps, fill, impl="native")
