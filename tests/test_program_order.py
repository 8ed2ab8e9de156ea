"""A launch's programs run in any order: its results are the same bits, whatever lay in memory.

The interpreter runs them one after the other, the last axis first. A program that reads what
another one writes, without waiting for it, is right in that order alone; here they run backwards as
well, in memory that was NaN before.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch
from bn_act_cases import inputs as bn_act_inputs
from kernel_cases import need

from fastinfogan.kernels import triton_needs
from fastinfogan.kernels.adam import adam, offsets
from fastinfogan.kernels.bn_act import Normalising, bn_act
from fastinfogan.kernels.consistency import consistency
from fastinfogan.kernels.conv import conv_and_sums
from fastinfogan.kernels.linear_bn_act import linear_bn_act
from fastinfogan.kernels.mi_loss import d_loss
from fastinfogan.model.latent_spec import parse_codes

HALF = torch.float16


def drawn(*size, dtype=torch.float32, last=False):
    numbers = torch.randn(size, generator=torch.Generator().manual_seed(len(size) + sum(size)))
    layout = torch.channels_last if last else torch.contiguous_format
    return (0.1 * numbers).to(dtype).contiguous(memory_format=layout)


def many_tiles():
    """38, of two strips of channels, with sums."""
    x, weight = (
        drawn(1, 1, 98, 98, dtype=HALF, last=True),
        drawn(70, 1, 4, 4, dtype=HALF, last=True),
    )
    return conv_and_sums(x, weight, None, 2, False, 1.0, 1, "triton")


def a_convolution(transposed):
    """The gradient of what a batchnorm made has two strips of channels, and sums."""
    x = drawn(*((2, 70, 9, 8) if transposed else (2, 70, 10, 10)), dtype=HALF, last=True)
    weight = drawn(*((70, 5) if transposed else (5, 70)), 4, 4, dtype=HALF, last=True)
    leaves = [x.requires_grad_(), weight.requires_grad_()]
    front = Normalising(*(torch.full((70,), n) for n in (1.0, 0.5)), None, None, 0.1, 2)
    y, sums = conv_and_sums(*leaves, None, 2, transposed, 1.0, 2, "triton", front=front)
    return [y, sums, *torch.autograd.grad(y, leaves, torch.ones_like(y))]


def a_batchnorm():
    x, weight, bias, mean, var, dy = bn_act_inputs((2, 5, 28, 28), torch.float32)
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    y = bn_act(*leaves, mean, var, 0.1, 2, impl="triton")
    return [y, mean, var, *torch.autograd.grad(y, leaves, dy)]


def a_layer(outputs):
    """Long sums in parts; with few outputs a backward pass of its own."""
    x, weight = drawn(6, 1100, dtype=HALF), drawn(outputs, 1100, dtype=HALF)
    numbers = [torch.full((outputs,), n) for n in (1.0, 0.5, 0.0, 1.0)]
    leaves = [t.requires_grad_() for t in (x, weight, *numbers[:2])]
    y = linear_bn_act(*leaves, *numbers[2:], 0.1, impl="triton")
    return [y, *numbers[2:], *torch.autograd.grad(y, leaves, torch.ones_like(y))]


def losses():
    codes = parse_codes("cat10,uni,cat70")
    q, q_copy = (drawn(12, sum(c.q_width for c in codes) + n)[:, n:].contiguous() for n in (0, 1))
    values, logits = torch.zeros(12, len(codes)), drawn(24)
    q.requires_grad_(), q_copy.requires_grad_()
    total, terms = d_loss(logits, q, values, codes, (1.0,) * len(codes), impl="triton")
    kl = consistency(q.detach(), q_copy, codes, impl="triton")
    return [total, terms, kl, *torch.autograd.grad(total + kl, (q, q_copy))]


def an_update():
    sizes = (3000, 5, 1025)
    params, first, second = (torch.zeros(offsets(sizes)[1]) for _ in range(3))
    step, lr = torch.zeros(1, dtype=torch.int64), torch.full((1,), 1e-3)
    grads = [drawn(size) for size in sizes]
    for _ in range(2):
        adam(
            params, grads, first, second, step, lr, beta1=0.5, beta2=0.999, eps=1e-8, impl="triton"
        )
    return [params, first, second, step]


CALLS = {
    "many tiles": many_tiles,
    "convolution": partial(a_convolution, False),
    "transposed convolution": partial(a_convolution, True),
    "batchnorm": a_batchnorm,
    "fully connected, many outputs": partial(a_layer, 140),
    "fully connected, few outputs": partial(a_layer, 40),
    "losses": losses,
    "adam": an_update,
}


@pytest.fixture
def fresh_memory():
    """What torch makes empty is NaN, or the largest integer."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")
@pytest.mark.usefixtures("fresh_memory")
@pytest.mark.parametrize("what", CALLS)
def test_backwards_it_is_the_same(what, monkeypatch):
    need("triton", "cpu")
    if not triton_needs.INTERPRETED:
        pytest.skip("a GPU has an order of its own")
    from triton.runtime.interpreter import interpreter_builder

    forwards, calls = CALLS[what](), []
    place = interpreter_builder.set_grid_idx

    def backwards(*index):
        calls.append(index)
        place(*(size - 1 - i for size, i in zip(interpreter_builder.grid_dim, index, strict=True)))

    monkeypatch.setattr(interpreter_builder, "set_grid_idx", backwards)
    found = CALLS[what]()
    assert len(calls) > 2
    for a, b in zip(forwards, found, strict=True):
        assert a.isfinite().all() and torch.equal(a, b)
