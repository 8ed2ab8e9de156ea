"""bn_act takes tensors of any strides, and names an argument that is off."""

from __future__ import annotations

import pytest
import torch
from bn_act_cases import inputs, outputs
from kernel_cases import PLACES, need

from fastinfogan.kernels.bn_act import bn_act


@pytest.mark.parametrize(("impl", "device"), PLACES)
@pytest.mark.parametrize("layout", ["contiguous", "cropped", "permuted", "expanded gradient"])
def test_any_strides_do(impl, device, layout):
    need(impl, device)
    shape = (4, 6, 3, 5)
    tensors = inputs(shape, torch.float32)
    expected = outputs(tensors, impl, device, slope=0.1)
    if layout == "contiguous":  # NCHW; so is the gradient
        tensors = [t.contiguous() for t in tensors]
    elif layout == "cropped":  # as after a transposed convolution of stride 1
        wide = torch.zeros(4, 6, 4, 6)
        wide[..., :-1, :-1] = tensors[0]
        tensors[0] = wide[..., :-1, :-1]
    elif layout == "permuted":  # as after a fully connected layer: (height, width, channel)
        tensors[0] = tensors[0].permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    else:  # as .sum() hands down
        tensors[5] = torch.ones(()).expand(shape)
        x, *rest = (t.clone() for t in tensors[:5])
        x.requires_grad_()
        bn_act(x, *rest, 0.1, impl="reference").sum().backward()
        y = bn_act(
            moved := x.detach().to(device).requires_grad_(),
            *(t.to(device) for t in rest),
            0.1,
            impl=impl,
        )
        y.sum().backward()
        torch.testing.assert_close(moved.grad.cpu(), x.grad)
        return
    x = tensors[0].to(device) if layout == "contiguous" else tensors[0]
    y = bn_act(x.to(device), *(t.to(device) for t in tensors[1:5]), 0.1, impl=impl)
    assert torch.equal(y, expected[0])
    assert y.is_contiguous(memory_format=torch.channels_last)


def arguments(**changed):
    x = changed.pop("x", torch.randn(4, 3, 2, 2))
    channels = x.shape[1] if x.dim() > 1 else 1
    kwargs = dict(x=x, weight=torch.ones(channels), bias=torch.zeros(channels), slope=0.1)
    kwargs |= dict(running_mean=torch.zeros(channels), running_var=torch.ones(channels))
    return kwargs | changed


@pytest.mark.parametrize("impl", ["reference", "native"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(x=torch.randn(4)), "x is (4,)"),
        (dict(x=torch.randn(2, 3, 4)), "x is (2, 3, 4)"),
        (dict(x=torch.randn(0, 3)), "not empty"),
        (dict(x=torch.ones(4, 3, dtype=torch.int64)), "x is torch.int64"),
        (dict(weight=torch.ones(4)), "weight is (4,), and x has 3 channels"),
        (dict(bias=torch.zeros(1)), "bias is (1,)"),
        (dict(weight=torch.ones(3, dtype=torch.float64)), "weight is torch.float64"),
        (dict(running_var=torch.ones(3, dtype=torch.bfloat16)), "running_var is torch.bfloat16"),
        (dict(bias=torch.zeros(3, device="meta")), "bias is on meta, and x on cpu"),
        (dict(weight=torch.ones(6)[::2]), "weight has stride 2"),
        (dict(running_mean=None), "running_mean and running_var go together"),
        (dict(running_mean=None, running_var=None, training=False), "needs training=True"),
        (dict(slope=-0.1), "slope=-0.1"),
        (dict(slope=float("nan")), "slope=nan"),
        (dict(momentum=3.0), "momentum=3.0; 0 to 1 work"),
        (dict(eps=-1.0), "eps=-1.0; 0 or more works"),
        (dict(groups=3), "groups=3"),
        (dict(x=torch.randn(5, 3, 2, 2), groups=2), "groups=2 with a batch of 5"),
        (dict(x=torch.randn(1, 3)), "one value per channel"),
        (dict(x=torch.randn(2, 3, 1, 1), groups=2), "one value per channel"),
    ],
)
def test_bad_arguments(impl, changed, message):
    with pytest.raises(ValueError) as caught:
        bn_act(**arguments(**changed), impl=impl)
    assert message in str(caught.value)
    assert str(caught.value).startswith("bn_act: ") and "\n" not in str(caught.value)


def test_the_reference_has_no_exchange():
    with pytest.raises(RuntimeError, match="exchange"):
        bn_act(**arguments(), exchange=lambda partials: partials, impl="reference")
