"""Ops have no second derivative, and whoever needs one hears so: for a gradient penalty, say."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from kernel_cases import PLACES, need

from fastinfogan import kernels
from fastinfogan.config import PRESETS
from fastinfogan.kernels.bn_act import bn_act
from fastinfogan.kernels.consistency import consistency
from fastinfogan.kernels.conv import conv
from fastinfogan.kernels.dense import dense
from fastinfogan.kernels.dispatch import plain_ops
from fastinfogan.kernels.linear import linear
from fastinfogan.kernels.linear_bn_act import linear_bn_act
from fastinfogan.kernels.mi_loss import mi_loss
from fastinfogan.kernels.warp import warp
from fastinfogan.model.latent_spec import LatentSpec, parse_codes
from fastinfogan.model.networks import Discriminator

CODES = parse_codes("cat3,uni")
VALUES = torch.tensor([[0.0, 0.5], [2.0, -0.5], [1.0, 0.0], [0.0, 1.0]])
MAPS = torch.tensor([1.0, 0.1, 0.2, -0.1, 0.9, 0.1, 1.0, 0.0]).repeat(4, 1)


def drawn(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# By its name: the shape of an input, and the op of it, with what else it takes moved by `to`.
OPS = {
    "bn_act": ((4, 5, 2, 2), lambda x, to, impl: bn_act(
        x, to(torch.ones(5)), to(torch.zeros(5)), None, None, 0.1, impl=impl)),
    "conv": ((4, 3, 4, 4), lambda x, to, impl: conv(
        x, to(drawn(5, 3, 4, 4)), None, 2, False, 0.1, impl)),
    "linear": ((4, 6), lambda x, to, impl: linear(x, to(drawn(3, 6)), None, impl)),
    "linear_bn_act": ((4, 6), lambda x, to, impl: linear_bn_act(
        x, to(drawn(5, 6)), to(torch.ones(5)), to(torch.zeros(5)), None, None, 0.1, impl=impl)),
    "dense": ((4, 6), lambda x, to, impl: dense(
        x, [to(drawn(3, 6))], [None], ["sigmoid"], impl)),
    "mi_loss": ((4, 4), lambda x, to, impl: mi_loss(x, to(VALUES), CODES, (1.0, 0.1), impl)[0]),
    "consistency": ((4, 4), lambda x, to, impl: consistency(to(drawn(4, 4)), x, CODES, impl)),
    "warp": ((4, 3, 4, 4), lambda x, to, impl: warp(
            x, MAPS.to(x.device), torch.zeros(3, device=x.device), impl=impl)),
}  # fmt: skip
LACKING = {("linear_bn_act", "native"), ("dense", "triton")}


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize(("impl", "device"), PLACES)
def test_a_penalty_on_a_gradient_is_refused(impl, device, name):
    """Where the gradient that came in has no history, too: torch's own guard lets that pass."""
    if (name, impl) in LACKING:
        pytest.skip("the op has no such implementation")
    need(impl, device)
    shape, call = OPS[name]
    dtype = torch.float16 if (name, impl) == ("conv", "triton") else torch.float32
    for of in (torch.sum, lambda y: y.square().sum()):
        x = drawn(*shape, seed=0).to(device, dtype).requires_grad_()
        y = of(call(x, lambda t: t.to(device, dtype), impl))
        (plain,) = torch.autograd.grad(y, x, retain_graph=True)
        (gradient,) = torch.autograd.grad(y, x, create_graph=True)
        assert torch.equal(gradient, plain)
        with pytest.raises(RuntimeError, match=f"^{name}: it has no second derivative; impl='ref"):
            (y + gradient.square().sum()).backward()


def test_every_op_refuses():
    """With its own name, which is its folder's."""
    found = {name: set() for name in OPS}
    for path in sorted(Path(kernels.__file__).parent.glob("*/__init__.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name == "backward":
                found[path.parent.name].add(tuple(map(ast.unparse, node.decorator_list)))
    assert found == {name: {("staticmethod", f"once({name!r})")} for name in OPS}


@pytest.mark.parametrize("name", OPS)
def test_the_reference_has_one(name):
    shape, call = OPS[name]
    x = drawn(*shape, seed=0).double().requires_grad_()
    with plain_ops():
        assert torch.autograd.gradgradcheck(lambda x: call(x, torch.Tensor.double, "auto"), x)


def test_a_recorded_gradient_may_be_used_like_any_other():
    """Nobody asks for its derivative: that it has none is no concern."""
    x = drawn(4, 5, 2, 2, seed=0).requires_grad_()
    ends = torch.ones(5), torch.zeros(5)
    y = bn_act(x, *ends, None, None, 0.1, impl="native").square().sum() + x.pow(3).sum()
    (gradient,) = torch.autograd.grad(y, x, create_graph=True)
    assert torch.equal(gradient, *torch.autograd.grad(y, x, retain_graph=True))
    (own,) = torch.autograd.grad(x.pow(3).sum(), x, create_graph=True)
    (y + own.sum()).backward()
    torch.testing.assert_close(x.grad, gradient.detach() + 6 * x.detach())


@pytest.mark.usefixtures("narrow_presets")
@pytest.mark.parametrize("preset", ["mnist", "celeba", "chairs-rotation"])
def test_a_discriminator_takes_a_gradient_penalty_without_kernels(preset):
    """Of R1 (Mescheder et al., 2018), the gradient is its slope, as differences have it."""
    architecture = PRESETS[f"narrow-{preset}"].architecture
    torch.manual_seed(0)
    network = Discriminator(architecture, LatentSpec(2, CODES)).double()
    parameters = [*network.trunk.parameters(), *network.d_head.parameters()]
    images = drawn(3, *architecture.image_shape).double().requires_grad_()

    def penalty():
        logits = network.judged(images)
        (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
        return gradient.square().sum()

    with pytest.raises(RuntimeError, match="no second derivative"):
        penalty().backward()
    with plain_ops():
        found = torch.autograd.grad(penalty(), parameters, allow_unused=True)
        along = [torch.randn_like(p) for p in parameters]
        slope = sum((g * d).sum() for g, d in zip(found, along, strict=True) if g is not None)
        at = []
        for step in (1e-6, -2e-6):
            with torch.no_grad():
                torch._foreach_add_(parameters, along, alpha=step)
            at.append(penalty().item())
    torch.testing.assert_close((at[0] - at[1]) / 2e-6, slope.item(), rtol=1e-6, atol=1e-6)
